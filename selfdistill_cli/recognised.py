"""A user's file that holds conversations, recognised before anything is composed: task=custom is task=chat then."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.data_files import files_of, format_of

COLUMN = "messages"
"""How the column is named by whoever writes such files (OpenAI, trl)."""
SAID_OTHERWISE = ("task.text=", "task.label=", "task.answer=", "task.choices=", "task.kind=")
"""With one of these the file is read as it says."""


def as_conversations(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command, and a sentence if they were changed: if they name a file of conversations and nothing else.

    A file that cannot be read is left to whoever reads it.
    """
    unchanged = list(words), None
    if "task=custom" not in words or any(word.startswith(SAID_OTHERWISE) for word in words):
        return unchanged
    named = {name: value for name, _, value in (word.partition("=") for word in words)}
    as_chat = ["task=chat" if word == "task=custom" else word for word in words]
    if "task.messages" in named:
        return as_chat, None
    path = named.get("task.path", named.get("task.validation_path", ""))
    if not path or COLUMN not in _columns(Path(path.strip("'\""))):
        return unchanged
    return as_chat, (
        f"{path} has a column '{COLUMN}': its conversations are learned (task=chat). task.text=<column> names other texts."
    )


def _columns(path: Path) -> Sequence[str]:
    """The names of a file's columns, or of its first record's; none where they cannot be read."""
    try:
        file = files_of(path)[0]
        if format_of(file) == "parquet":
            from pyarrow import parquet

            return list(parquet.read_schema(file).names)
        if format_of(file) in ("jsonl", "ndjson", "json"):
            return list(_first_record(file))
    except (UserError, OSError, ValueError, EOFError, zlib.error, RecursionError):
        pass
    return []


def _first_record(path: Path) -> dict[str, Any]:
    from selfdistill_cli.tasks.readers.encodings import open_lines

    with open_lines(path, None) as lines:
        first = next((line for line in lines.stream if line.strip()), "")
        if format_of(path) == "json" and not _is_record(first):
            content = json.loads(first + lines.stream.read())
            content = (
                next(iter(content.values()), None) if isinstance(content, dict) and COLUMN not in content else content
            )
            return content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
        record = json.loads(first)
    return record if isinstance(record, dict) else {}


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
