"""Generated tasks, for a machine without data: seeded, deterministic, and honest about being synthetic.

synth_entailment(2, seed=0)
{"premise": ["On Monday Anna sold three red lamps to Tom in the market.", ...],
 "hypothesis": ["Tom bought lamps from Anna.", ...], "label": [0, ...]}
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

VERSION = 1
"""Raise it when a generator's output changes: it is part of the data's fingerprint."""

PEOPLE = [
    "Anna",
    "Tom",
    "Maria",
    "Peter",
    "Leila",
    "Omar",
    "Ruth",
    "Jonas",
    "Mei",
    "Carlos",
    "Nina",
    "Pavel",
    "Grace",
    "Hugo",
    "Sana",
    "Erik",
]
PLACES = ["market", "station", "library", "park", "harbour", "museum", "school", "garden", "theatre", "hospital"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "grey", "brown"]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine"]
THINGS = {
    "fruit": ["apples", "pears", "plums", "cherries", "lemons"],
    "furniture": ["chairs", "tables", "lamps", "shelves", "desks"],
    "clothing": ["coats", "scarves", "shirts", "gloves", "hats"],
    "animals": ["rabbits", "parrots", "kittens", "ponies", "goats"],
}


@dataclass(frozen=True)
class Sale:
    """One event: who sold what to whom, where and when."""

    seller: str
    buyer: str
    number: int
    colour: str
    kind: str
    thing: str
    place: str
    day: str

    def sold(self) -> str:
        return f"{self.seller} sold {NUMBERS[self.number]} {self.colour} {self.thing} to {self.buyer}"

    def bought(self) -> str:
        return f"{self.buyer} bought {NUMBERS[self.number]} {self.colour} {self.thing} from {self.seller}"

    def premise(self, rng: random.Random) -> str:
        core = rng.choice((self.sold(), self.bought()))
        return rng.choice((f"On {self.day} {core} in the {self.place}.", f"{core} in the {self.place} on {self.day}."))


def _sale(rng: random.Random) -> Sale:
    seller, buyer = rng.sample(PEOPLE, 2)
    kind = rng.choice(list(THINGS))
    return Sale(
        seller,
        buyer,
        rng.randrange(1, len(NUMBERS) - 1),
        rng.choice(COLOURS),
        kind,
        rng.choice(THINGS[kind]),
        rng.choice(PLACES),
        rng.choice(DAYS),
    )


def _another(rng: random.Random, values: list[str], value: str) -> str:
    return rng.choice([other for other in values if other != value])


def synth_entailment(size: int, seed: int) -> dict[str, list[Any]]:
    """Pairs of sentences; label 0 entailment, 1 not_entailment, each half of the set.

    Both labels share their words: what decides is who did what, the direction of a comparison, a
    more general or another noun, a changed detail.
    """
    rng = random.Random(f"synth_entailment {seed}")
    rows: dict[str, list[Any]] = {"premise": [], "hypothesis": [], "label": []}
    for index in range(size):
        sale = _sale(rng)
        label = index % 2
        rows["premise"].append(sale.premise(rng))
        rows["hypothesis"].append(_not_entailed(sale, rng) if label else _entailed(sale, rng))
        rows["label"].append(label)
    order = rng.sample(range(size), size)
    return {name: [values[i] for i in order] for name, values in rows.items()}


def _claim(sale: Sale, rng: random.Random) -> str:
    """A sentence that is true of the sale and says less than everything."""
    forms = (
        f"{sale.seller} sold {sale.thing} to {sale.buyer}.",
        f"{sale.buyer} bought {sale.thing} from {sale.seller}.",
        f"{sale.buyer} bought {sale.colour} {sale.thing}.",
        f"{sale.seller} sold {sale.colour} {sale.thing} in the {sale.place}.",
        f"{sale.buyer} was in the {sale.place} on {sale.day}.",
        f"{sale.seller} sold {NUMBERS[sale.number]} {sale.thing}.",
    )
    return rng.choice(forms)


def _entailed(sale: Sale, rng: random.Random) -> str:
    forms = (
        f"{sale.buyer} bought {sale.kind} from {sale.seller}.",
        f"{sale.seller} sold at least {NUMBERS[sale.number - 1]} {sale.thing}.",
        _claim(sale, rng),
        _claim(sale, rng),
    )
    return rng.choice(forms)


def _not_entailed(sale: Sale, rng: random.Random) -> str:
    swapped = replace(sale, seller=sale.buyer, buyer=sale.seller)
    other_kind = _another(rng, list(THINGS), sale.kind)
    changed = rng.choice(
        (
            replace(sale, colour=_another(rng, COLOURS, sale.colour)),
            replace(sale, thing=_another(rng, THINGS[sale.kind], sale.thing)),
            replace(sale, place=_another(rng, PLACES, sale.place), day=_another(rng, DAYS, sale.day)),
        )
    )
    forms = (
        f"{sale.seller} bought {sale.thing} from {sale.buyer}.",
        f"{swapped.seller} sold {sale.thing} to {swapped.buyer}.",
        f"{sale.seller} sold at least {NUMBERS[sale.number + 1]} {sale.thing}.",
        f"{sale.buyer} bought {other_kind} from {sale.seller}.",
        # A claim may leave the changed detail out; these two forms always show one.
        f"{changed.buyer} bought {changed.colour} {changed.thing} in the {changed.place} on {changed.day}.",
        f"{changed.seller} sold {changed.colour} {changed.thing} in the {changed.place} on {changed.day}.",
    )
    return rng.choice(forms)


def synth_similarity(size: int, seed: int) -> dict[str, list[Any]]:
    """Pairs of sentences with a similarity from 0 to 5: the weighted share of details that agree.

    The second sentence changes each detail with a probability that differs from pair to pair, and
    half of them are told from the other person's side.
    """
    rng = random.Random(f"synth_similarity {seed}")
    weights = {"people": 1.5, "thing": 1.5, "colour": 0.5, "number": 0.5, "place": 0.5, "day": 0.5}
    rows: dict[str, list[Any]] = {"sentence1": [], "sentence2": [], "label": []}
    for _ in range(size):
        first, other = _sale(rng), _sale(rng)
        change = rng.random()
        kept = {name for name in weights if rng.random() > change}
        second = replace(
            other,
            seller=first.seller if "people" in kept else other.seller,
            buyer=first.buyer if "people" in kept else other.buyer,
            kind=first.kind if "thing" in kept else other.kind,
            thing=first.thing if "thing" in kept else other.thing,
            colour=first.colour if "colour" in kept else other.colour,
            number=first.number if "number" in kept else other.number,
            place=first.place if "place" in kept else other.place,
            day=first.day if "day" in kept else other.day,
        )
        same = {
            "people": (first.seller == second.seller) * 0.5 + (first.buyer == second.buyer) * 0.5,
            "thing": 1.0 if first.thing == second.thing else 0.4 * (first.kind == second.kind),
            **{
                name: float(getattr(first, name) == getattr(second, name))
                for name in ("colour", "number", "place", "day")
            },
        }
        rows["sentence1"].append(first.premise(rng))
        rows["sentence2"].append(second.premise(rng))
        rows["label"].append(round(sum(weights[name] * same[name] for name in weights), 3))
    return rows


ITEMS = [thing for things in ("fruit", "clothing") for thing in THINGS[things]] + ["books", "coins"]
GAINS = ("{other} gives {person} {n} more.", "{person} buys {n} more.", "{person} finds {n} {item}.")
LOSSES = ("{person} gives {n} to {other}.", "{person} sells {n} of them.", "{person} loses {n} {item}.")
LARGEST = 30
"""Of the numbers in a problem: chosen so that tiny_llama learns most of them in minutes, and not all."""


def synth_arithmetic(size: int, seed: int) -> dict[str, list[Any]]:
    """Word problems of one or two steps with a worked answer, in GSM8K's form.

    {"question": ["Anna has 23 apples. Tom gives Anna 15 more. How many apples does Anna have now?"],
     "answer": ["23 + 15 = 38\\n#### 38"]}
    """
    rng = random.Random(f"synth_arithmetic {seed}")
    problems = [_word_problem(rng) for _ in range(size)]
    return {"question": [question for question, _ in problems], "answer": [answer for _, answer in problems]}


def _word_problem(rng: random.Random) -> tuple[str, str]:
    person, other = rng.sample(PEOPLE, 2)
    item, total = rng.choice(ITEMS), rng.randint(10, LARGEST)
    sentences, work = [f"{person} has {total} {item}."], []
    for _ in range(rng.randint(1, 2)):
        step = rng.choice(("gain", "loss", "packs") if total > 0 else ("gain", "packs"))
        if step == "packs":
            packs, each = rng.randint(2, 9), rng.randint(2, 9)
            sentences.append(f"{person} buys {packs} packs of {each} {item}.")
            work += [f"{packs} * {each} = {packs * each}", f"{total} + {packs * each} = {total + packs * each}"]
            total += packs * each
            continue
        n = rng.randint(2, LARGEST) if step == "gain" else rng.randint(1, total)
        form = rng.choice(GAINS if step == "gain" else LOSSES)
        sentences.append(form.format(person=person, other=other, item=item, n=n))
        after = total + n if step == "gain" else total - n
        work.append(f"{total} {'+' if step == 'gain' else '-'} {n} = {after}")
        total = after
    sentences.append(f"How many {item} does {person} have now?")
    return " ".join(sentences), "\n".join([*work, f"#### {total}"])


def synth_facts(size: int, seed: int) -> dict[str, list[Any]]:
    """Short passages of two or three sales, and a question on a detail of one of them, answered by that detail.

    {"passage": ["On Monday Anna sold three red lamps to Tom in the market. ..."],
     "question": ["What did Tom buy from Anna?"], "answer": ["three red lamps"]}
    """
    rng = random.Random(f"synth_facts {seed}")
    rows: dict[str, list[Any]] = {"passage": [], "question": [], "answer": []}
    for _ in range(size):
        # No person and no thing occurs twice, so that a question has one answer.
        people, things = rng.sample(PEOPLE, 6), rng.sample([(k, t) for k, all_ in THINGS.items() for t in all_], 3)
        sales = [
            replace(_sale(rng), seller=people[2 * i], buyer=people[2 * i + 1], kind=kind, thing=thing)
            for i, (kind, thing) in enumerate(things[: rng.randint(2, 3)])
        ]
        question, answer = rng.choice(_questions(rng.choice(sales)))
        rows["passage"].append(" ".join(sale.premise(rng) for sale in sales))
        rows["question"].append(question)
        rows["answer"].append(answer)
    return rows


def _questions(sale: Sale) -> list[tuple[str, str]]:
    """What can be asked of a sale, and what is to be answered."""
    return [
        (f"Who bought {sale.thing}?", sale.buyer),
        (f"Who sold {sale.thing}?", sale.seller),
        (f"What did {sale.buyer} buy?", f"{NUMBERS[sale.number]} {sale.colour} {sale.thing}"),
        (f"Where did {sale.seller} sell {sale.thing}?", f"in the {sale.place}"),
        (f"On which day was {sale.buyer} in the {sale.place}?", sale.day),
    ]
