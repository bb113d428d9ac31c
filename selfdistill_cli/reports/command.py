"""The entry point of `sdreport`: from folders of runs to a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfdistill_cli.errors import UserError, did_you_mean, end_in_words, how_to_install
from selfdistill_cli.reports.runs import Run, find_runs
from selfdistill_cli.tracking.terminal import make_console, say, shortest


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sdreport",
        description="Read finished runs and write a report: one HTML page, Markdown, figures, LaTeX and CSV tables.",
        epilog="example: sdreport outputs --where task.name=rte --where method.name=vanilla,dynsdpb --out report",
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("outputs")], help="folders of runs (outputs)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="where the report is written (report)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="only runs with this setting, by its name in config.yaml; a run whose method has no such setting is kept",
    )
    parser.add_argument("--title", help="of the report")
    parser.add_argument("--watch", action="store_true", help="follow running runs in the terminal; writes nothing")
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
        wanted = values.split(",")
        present = {_value(run, key) for run in runs if run.settings} - {None}
        for value in wanted:
            if value not in present:
                raise UserError(
                    f"--where {condition}: no run has {key}={value}. There are {', '.join(sorted(map(str, present)))}."
                )
        runs = [run for run in runs if not run.settings or _value(run, key) in (None, *wanted)]
    return list(runs)


def _value(run: Run, key: str) -> str | None:
    """A setting in words; None if the run has none of that name."""
    if key == "seed":
        return str(run.seed)
    return str(run.settings[key]) if key in run.settings else None


def report(words: Sequence[str]) -> None:
    """Do what the command line says. Raises `UserError` if there is nothing to report on."""
    arguments, console = _arguments(words), make_console()

    def read() -> list[Run]:
        return chosen(find_runs(arguments.folders), arguments.where)

    if arguments.watch:
        from selfdistill_cli.reports.watch import watch

        watch(read, console)
        return
    runs = read()
    if not runs:
        folders = ", ".join(map(str, arguments.folders))
        raise UserError(
            f"there is no run below {folders}. sdrun leaves its runs in outputs/, or where paths.outputs says."
        )
    try:
        from selfdistill_cli.reports.report import write_report
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: {how_to_install('reports')}") from error
    title = arguments.title or f"Report on {', '.join(folder.name or str(folder) for folder in arguments.folders)}"
    made = write_report(runs, title, arguments.out)
    unusable = [run for run in runs if not run.finished]
    say(console, f"{len(runs) - len(unusable)} finished runs, {len(unusable)} others (listed in the report)")
    for chapter in made:
        say(console, f"  {chapter.title}")
    say(
        console,
        f"written to {shortest((arguments.out / 'index.html').absolute())}, with report.md, figures/ and tables/",
    )


def main() -> None:
    """What the console script `sdreport` calls."""
    end_in_words("sdreport", report)


if __name__ == "__main__":
    main()
