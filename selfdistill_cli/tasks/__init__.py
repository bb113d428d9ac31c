"""Tasks: where the data comes from, and what the labels mean."""

from selfdistill_cli.tasks.data import TaskData
from selfdistill_cli.tasks.split import Split

__all__ = ["Split", "TaskData"]
