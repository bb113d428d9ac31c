"""Mistakes that the user can mend, and the words that help to mend them."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from signal import Signals


class UserError(Exception):
    """Something outside the program is wrong: a setting, a file, a model that is not there.

    Its message says what is wrong, where, and what is allowed. It is shown without a traceback.
    """


class Interrupted(BaseException):
    """The run was asked to stop, and can be continued by the same command.

    A `BaseException`, so that a sweep stops as well instead of going on with its next job.
    """

    def __init__(self, words: str, signal: Signals) -> None:
        super().__init__(words)
        self.signal = signal


def end_in_words(program: str, do: Callable[[Sequence[str]], object]) -> None:
    """Do what the words behind a console script say; a mistake ends it with its message, Ctrl-C with its exit code."""
    try:
        do(sys.argv[1:])
    except UserError as error:
        sys.exit(f"{program}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def first_line(error: BaseException) -> str:
    """What an error says, in one line: the first that is not blank, or the error's kind if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def did_you_mean(name: str, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ` Did you mean 'x'?` for the nearest of the allowed names, whatever their case, or an empty string.

    `cutoff`: the share of letters that both have in common (difflib's ratio), at least.
    """
    names = list(allowed)
    as_written = {one.casefold(): one for one in names} | {one: one for one in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    close = close or difflib.get_close_matches(name.casefold(), as_written, n=1, cutoff=cutoff)
    return f" Did you mean '{as_written[close[0]]}'?" if close else ""


def how_to_install(extra: str) -> str:
    """The command that installs what an extra of this package names: of a checkout, else the packages themselves.

    The package is on no index, so that its name would install nothing.
    """
    checkout = Path(__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{checkout}[{extra}]')}"
    mark = re.compile(rf"\s*;\s*extra\s*==\s*['\"]{extra}['\"]")
    needed = [mark.sub("", line) for line in metadata.requires("selfdistill_cli") or [] if mark.search(line)]
    return f"pip install {shlex.join(needed)}"
