"""Two runs example by example: what one gets right and the other wrong, with texts, and both confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.diff import introduce
from selfdistill_cli.reports.intact import DamagedFileError, require_predictions
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.system.files import new_file
from selfdistill_cli.system.words import counted
from selfdistill_cli.tracking.tables import Column, print_table
from selfdistill_cli.tracking.terminal import say, shortest

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5
"""Examples of each kind in the terminal; the file has all."""
MOST_CLASSES = 8
"""Of a confusion matrix in the terminal; of more classes the pairs are listed that are confused most often."""
ASKED = ("text", "prompt", "text_pair")


def compare(a: Run, b: Run) -> pd.DataFrame:
    """The examples of the split that the score is of (the first one) on which both were scored, a row each.

    Columns: split, index, what was asked, `label`; of each run `A`, `B` what it said, `A right`, `B right`, and
    `A margin`, `B margin`: how far its logit was above the next one (regression: its absolute error in place of both).
    Raises `UserError` if a run has no predictions that can be read, or the examples of both are not the same.
    """
    first, second = _predictions(a), _predictions(b)
    both = first.merge(second, on=["split", "index"], suffixes=("", "|B"))
    if both.empty:
        raise UserError(f"{a.path.name} and {b.path.name} were scored on no example in common ({a.task}, {b.task}).")
    same = ["label", *(name for name in ASKED if name in first and name in second and name in both)]
    other = (both[same].astype(str).to_numpy() != both[[f"{name}|B" for name in same]].astype(str).to_numpy()).any(1)
    if other.any():
        raise UserError(
            f"{int(other.sum()):,} of {len(both):,} examples have the same number in {a.path.name} and {b.path.name}, and "
            "another text or label: the runs were scored on different data."
        )
    renamed = {name: f"A{name.removeprefix('said')}" for name in ("said", "said right", "said margin", "said error")}
    renamed |= {f"{name}|B": f"B{name.removeprefix('said')}" for name in renamed}
    kept = [name for name in both if not name.endswith("|B") or name in renamed]
    return both[kept].rename(columns=renamed)


def _predictions(run: Run) -> pd.DataFrame:
    """Split, index, what was asked, label, `said`, and `said right`, `said margin` or `said error`."""
    import pandas as pd

    path = run.path / "predictions.parquet"
    try:
        require_predictions(path)
    except DamagedFileError as error:
        raise UserError(f"{run.path}: {error}.") from error
    table = pd.read_parquet(path)
    table = table[table["split"] == table["split"].iloc[0]] if len(table) else table
    found = table[["split", "index"]].copy()
    written = "correct" in table  # `text` is then what the model has written
    for name in ASKED:
        if name in table and not (written and name == "text"):
            found[name] = table[name]
    if written:
        found["label"] = [" | ".join(map(str, references)) for references in table["references"]]
        found["said"] = table["answer"].where(table["answer"].notna(), table["text"])
        found["said right"] = table["correct"].astype(bool)
        return found
    found["label"] = table["label_name"] if "label_name" in table else table["label"]
    found["said"] = table["prediction_name"] if "prediction_name" in table else table["prediction"]
    if run.results.get("kind") == "regression":
        found["said error"] = (table["prediction"] - table["label"]).abs()
        return found
    found["said right"] = table["prediction"] == table["label"]
    if "logits" in table:
        found["said margin"] = [_margin(np.asarray(logits)) for logits in table["logits"]]
    return found


def _margin(logits: np.ndarray) -> float:
    """How far the largest of [C] is above the next one."""
    second, first = np.partition(logits, -2)[-2:] if len(logits) > 1 else (0.0, logits[0])
    return float(first - second)


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value of McNemar's test: a fair coin's, for the examples that one run alone gets right."""
    from scipy.stats import binomtest

    n = only_a + only_b
    return float(binomtest(only_a, n).pvalue) if n else 1.0


def print_examples(a: Run, b: Run, console: Console, out: Path | None) -> None:
    """Counts, confusion matrices, texts; with `out`, all examples as `examples.csv` there."""
    table = compare(a, b)
    introduce(a, b, console)
    if "A right" in table:
        _print_counts(table, console)
        if table["label"].nunique() > 1 and "prompt" not in table:
            _print_confusion(table, console)
        for letter, other in (("A", "B"), ("B", "A")):
            only = table[table[f"{letter} right"] & ~table[f"{other} right"]]
            surest = only.sort_values(f"{other} margin", ascending=False) if f"{other} margin" in only else only
            _print_texts(surest, f"Right in {letter} alone: {len(only):,}", f"{other} was surest", console)
    else:
        _print_errors(table, console)
    if out is not None:
        with new_file(out / "examples.csv") as beside:
            table.to_csv(beside, index=False)
        say(console, f"\nall {counted(len(table), 'example')}: {shortest((out / 'examples.csv').absolute())}")


def _print_counts(table: pd.DataFrame, console: Console) -> None:
    right_a, right_b = table["A right"], table["B right"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    columns = [
        Column("", ["A right", "A wrong"]),
        Column("B right", [f"{(right_a & right_b).sum():,}", f"{only_b:,}"], right=True),
        Column("B wrong", [f"{only_a:,}", f"{(~right_a & ~right_b).sum():,}"], right=True),
    ]
    print_table(console, f"\n{counted(len(table), 'example')}", columns)
    say(
        console,
        f"{only_a:,} are right in A alone, {only_b:,} in B alone: of two equally good models such a difference or a larger "
        f"one comes about with probability {mcnemar(only_a, only_b):.2g} (McNemar's exact test, of these two runs only).",
    )


def _print_confusion(table: pd.DataFrame, console: Console) -> None:
    import pandas as pd

    classes = sorted({*map(str, table["label"]), *map(str, table["A"]), *map(str, table["B"])})
    if len(classes) > MOST_CLASSES:
        _print_most_confused(table, console)
        return
    for letter in "AB":
        counts = pd.crosstab(table["label"].astype(str), table[letter].astype(str))
        counts = counts.reindex(index=classes, columns=classes, fill_value=0)
        columns = [Column("label", classes), *(Column(c, [f"{n:,}" for n in counts[c]], right=True) for c in classes)]
        print_table(console, f"\nWhat {letter} predicts (across) for each label (down)", columns)


def _print_most_confused(table: pd.DataFrame, console: Console) -> None:
    counts = {
        letter: table[~table[f"{letter} right"]].groupby(["label", letter]).size().rename_axis(["label", "prediction"])
        for letter in "AB"
    }
    total = counts["A"].add(counts["B"], fill_value=0).sort_values(ascending=False, kind="stable")[:20]
    pairs = list(total.index)
    columns = [
        Column("label", [str(label) for label, _ in pairs]),
        Column("prediction", [str(prediction) for _, prediction in pairs]),
        *(Column(x, [f"{int(counts[x].get(pair, 0)):,}" for pair in pairs], right=True) for x in "AB"),
    ]
    print_table(console, "\nWhat is confused most often", columns)


def _print_errors(table: pd.DataFrame, console: Console) -> None:
    """Of numbers nothing is simply right: where the errors differ most."""
    gain = table["A error"] - table["B error"]
    say(
        console,
        f"\n{counted(len(table), 'example')}; mean absolute error {table['A error'].mean():.4f} in A, {table['B error'].mean():.4f} "
        f"in B; A is nearer in {int((gain < 0).sum()):,}, B in {int((gain > 0).sum()):,}.",
    )
    for letter, order in (("A", gain), ("B", -gain)):
        nearer = table.loc[order[order < 0].sort_values(kind="stable").index]
        _print_texts(nearer, f"Nearer in {letter}: {len(nearer):,}", "it gained most", console)


def _print_texts(table: pd.DataFrame, title: str, first: str, console: Console) -> None:
    more = f"; the {SHOWN} of which {first}" if len(table) > SHOWN else ""
    say(console, f"\n{title}{more}", "bold")
    asked = [name for name in ASKED if name in table]
    for row in table.head(SHOWN).to_dict("records"):
        say(console, f"- {_verdicts(row, ('label', 'A', 'B'))} (row {row['index']} of {row['split']})")
        for name in asked:
            for line in str(row[name]).splitlines() or [""]:
                say(console, f"  {line}")


def _verdicts(row: dict[str, object], names: Sequence[str]) -> str:
    def said(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else " ".join(str(value).split()) or "nothing"

    return ", ".join(f"{name} {said(row[name])}" for name in names)
