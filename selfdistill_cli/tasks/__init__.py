"""Tasks: where the data comes from, what the labels mean, and how predictions are scored."""

from selfdistill_cli.tasks.data import TaskData
from selfdistill_cli.tasks.split import Split

__all__ = ["Split", "TaskData"]
