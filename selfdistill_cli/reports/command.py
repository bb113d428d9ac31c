"""The entry point of `sdreport`: from folders of runs to a report, a list, a comparison of two runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from selfdistill_cli.errors import UserError, did_you_mean, end_in_words, how_to_install
from selfdistill_cli.reports.compute import EXAMPLES, UNITS, counted_in
from selfdistill_cli.reports.runs import Run, read_runs, with_whole_tables
from selfdistill_cli.reports.search import Places, search
from selfdistill_cli.system.files import require_writable
from selfdistill_cli.tracking.terminal import make_console, say, shortest


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sdreport",
        description="Read finished runs and write a report: one HTML page, Markdown, figures, LaTeX and CSV tables. "
        "Or, with one of the flags, something smaller in the terminal.",
        epilog="example: sdreport outputs --where task.name=rte --where method.name=vanilla,dynsdpb --out report",
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("outputs")], help="folders of runs (outputs)")
    parser.add_argument("--out", type=Path, help="where files are written (the report's: report)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="only runs with this setting of model, task, method, schedule, or seed; a run whose method has no such setting is kept",
    )
    parser.add_argument("--title", help="of the report")
    parser.add_argument(
        "--match",
        choices=tuple(UNITS),
        default=EXAMPLES,
        help="what equal compute means: as many examples forwarded (the default), or as many floating-point operations",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="one line a run: key, state, score, age, what it is")
    instead.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="two runs, by folder or key: settings, scores, where losses part"
    )
    instead.add_argument(
        "--examples",
        nargs=2,
        metavar=("A", "B"),
        help="what one of two runs gets right and the other wrong, with texts; --out writes all of it as examples.csv",
    )
    instead.add_argument(
        "--paper",
        action="store_true",
        help="write LaTeX tables, figures as PDF, a methods paragraph and the reproducibility checklist (to paper/)",
    )
    instead.add_argument("--watch", action="store_true", help="follow running runs and sweeps in the terminal")
    return parser.parse_args(words)


def chosen(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """The runs that meet every condition; damaged ones, whose settings are not known, always.

    Raises `UserError` if no run has such a setting, or none such a value.
    """
    for condition in conditions:
        key, equals, values = condition.partition("=")
        known = {name for run in runs for name in run.settings} | {"seed"}
        if not equals or key not in known:
            raise UserError(f"--where {condition}: no run has a setting '{key}'.{did_you_mean(key, known)}")
        forms = [run.in_all_words() for run in runs]
        present = {_alike(v): v for words in forms for one in words if one.settings for v in _values(one, key)}
        wanted = {_alike(value): value for value in values.split(",")}
        for alike, value in wanted.items():
            if alike not in present:
                there = ", ".join(sorted(map(str, present.values())))
                raise UserError(f"--where {condition}: no run has {key}={value}. There are {there}.")
        kept = [[one for one in words if all(_alike(v) in wanted for v in _values(one, key))] for words in forms]
        runs = [replace(words[0], asked=tuple(one.settings for one in words[1:])) for words in kept if words]
    return list(runs)


def _values(run: Run, key: str) -> list[Any]:
    """A setting of the run; nothing if it has none of that name, or is damaged and nobody knows."""
    if key == "seed" and run.settings:
        return [run.seed]
    return [run.settings[key]] if key in run.settings else []


def _alike(value: Any) -> str:
    """The same for `2` and 2.0, `5e-5` and 5.0e-05, `true` and True, `null` and None."""
    words = {"true": "True", "false": "False", "null": "None"}.get(str(value), str(value))
    try:
        return repr(float(words))
    except ValueError:
        return words


def report(words: Sequence[str]) -> None:
    """Do what the command line says. Raises `UserError` if there is nothing to report on."""
    arguments, console = _arguments(words), make_console()
    if arguments.watch:
        from selfdistill_cli.reports.watch import Reader, watch

        reader = Reader(arguments.folders)
        watch(lambda: chosen(reader(), arguments.where), console, sweeps=reader.sweeps)
        return
    if arguments.diff or arguments.examples:
        _compare(arguments, console)
        return
    places = search(arguments.folders)
    runs = counted_in(chosen(read_runs(places), arguments.where), arguments.match)
    if not runs:
        folders = ", ".join(map(str, arguments.folders))
        raise UserError(
            f"there is no run below {folders}. sdrun leaves its runs in outputs/, or where paths.outputs says."
        )
    if arguments.list:
        from selfdistill_cli.reports.listing import print_list

        print_list(runs, console)
    else:
        _write(runs, arguments, console)
    _say_what_is_foreign(places, console)


def _compare(arguments: argparse.Namespace, console: Console) -> None:
    from selfdistill_cli.reports.diff import print_difference, two_runs

    first, second = two_runs(arguments.diff or arguments.examples, arguments.folders)
    if arguments.diff:
        print_difference(first, second, console)
        return
    if arguments.out:
        require_writable(arguments.out)
    with _installed():
        from selfdistill_cli.reports.examples import print_examples

        print_examples(first, second, console, arguments.out)


def _write(runs: Sequence[Run], arguments: argparse.Namespace, console: Console) -> None:
    out = arguments.out or Path("paper" if arguments.paper else "report")
    require_writable(out)
    from selfdistill_cli.reports.listing import counted

    with _installed():
        from selfdistill_cli.reports.paper import write_paper
        from selfdistill_cli.reports.plates import cores
        from selfdistill_cli.reports.report import in_short, write_report
    title = arguments.title or f"Report on {', '.join(folder.name or str(folder) for folder in arguments.folders)}"
    runs = with_whole_tables(runs)
    unusable = [run for run in runs if not run.finished]
    say(console, counted(runs) + (" (what did not finish is listed in the report)" if unusable else ""))
    for run in runs:
        for why in run.left_out.values():
            say(console, f"  {shortest(run.path)}: without {why}")
    if arguments.paper:
        if len(unusable) == len(runs):
            raise UserError("no run has finished: there is nothing to write a paper of.")
        made = write_paper(runs, title, out)
        say(console, f"written to {shortest((out / 'paper.tex').absolute())}, with {', '.join(made[1:])}")
        return
    for line in in_short(write_report(runs, title, out, cores())):
        say(console, line)
    say(console, f"written to {shortest((out / 'index.html').absolute())}, with report.md, figures/ and tables/")


@contextmanager
def _installed() -> Iterator[None]:
    """While what draws and computes is imported: it is an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: {how_to_install('reports')}") from error


def _say_what_is_foreign(places: Places, console: Console) -> None:
    if places.foreign:
        named = ", ".join(str(shortest(path)) for path in places.foreign[:3])
        more = f" and {len(places.foreign) - 3} more" if len(places.foreign) > 3 else ""
        say(console, f"passed over, since sdrun did not make them: {named}{more}")


def main() -> None:
    """What the console script `sdreport` calls."""
    end_in_words("sdreport", report)


if __name__ == "__main__":
    main()
