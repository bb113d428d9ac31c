"""What a person sees of jobs that run side by side: a line when one begins or ends, and on a terminal where each is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from selfdistill_cli.runs.results import objective
from selfdistill_cli.sweeps.choices import NumberedJob
from selfdistill_cli.sweeps.job import headline, varied_words
from selfdistill_cli.sweeps.launchers.telling import summary, time_left
from selfdistill_cli.sweeps.plan import Plan
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.tracking.terminal import duration, say, shortest

TAIL = 4096
"""Bytes of what a job has written in which its last line is looked for."""


class Board:
    """Follows the jobs of one sweep, `at_once` of which run at a time."""

    def __init__(self, console: Console, records: JobRecords, plan: Plan | None, at_once: int) -> None:
        self.console, self.records, self.plan, self.at_once = console, records, plan, at_once
        # Without a thread of its own, and with the standard streams as they are: processes are forked from this one.
        live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live = live if console.is_terminal else None

    def begin(self, how: str) -> None:
        """Say how the jobs are run."""
        say(self.console, f"{how}; what each says: {shortest(self.records.folder)}/<n>.out")
        if self._live is not None:
            self._live.start()

    def began(self, job: NumberedJob) -> None:
        """Tell that a job has begun."""
        say(self.console, headline(*job, self.plan, self.records.all(), self.at_once), style="bold")

    def ended(self, job: NumberedJob) -> None:
        """Tell how a job has ended: by its record, or, without one, on request."""
        number, record = job[0] + 1, self.records.read(job[0])
        if record is None:
            say(self.console, f"job {number} left: {last_line(self.records.output(job[0])) or 'it had not begun'}")
        elif record["status"] == "failed":
            trace = f"\n  traceback: {shortest(Path(record['log']))}" if "log" in record else ""
            say(self.console, f"job {number} failed: {record['reason']}{trace}", style="red")
        else:
            how = record["status"] if record["status"] != "finished" else duration(record["took"])
            say(self.console, f"job {number}: {record['metric']} {objective(record):.4f} ({how})")

    def show(self, running: Sequence[NumberedJob], waiting: int) -> None:
        """Where each job is now; on a terminal only."""
        if self._live is None:
            return
        states = ["running"] * len(running) + ["waiting"] * waiting
        records = self.records.all()
        lines = [self._now(job) for job in running]
        whole = summary(len(records), states) + time_left(states, records)
        shown = [Text(line, overflow="ellipsis", no_wrap=True) for line in (*lines, whole)]
        self._live.update(Group(*shown), refresh=True)

    def close(self) -> None:
        """Take the board away."""
        if self._live is not None:
            self._live.stop()

    def _now(self, job: NumberedJob) -> str:
        words = " ".join(varied_words(job[1], self.plan))
        return f"job {job[0] + 1}  {words}  {last_line(self.records.output(job[0]))}"


def last_line(file: Path) -> str:
    """The last line in which anything stands, of a file that is being written."""
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        lines = opened.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
