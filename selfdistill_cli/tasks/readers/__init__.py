"""Data files as tables: one file a format, and where the files of a path are.

Columns of text formats are strings exactly as the file says; columns of Parquet and Arrow keep their types. Only the
columns that are asked for are read.
"""

from __future__ import annotations

from selfdistill_cli.tasks.readers.base import Read, Reading, reading
from selfdistill_cli.tasks.readers.columnar import plain_table
from selfdistill_cli.tasks.readers.tables import read_table, require_settings_used

__all__ = [
    "Read",
    "Reading",
    "plain_table",
    "read_table",
    "reading",
    "require_settings_used",
]
