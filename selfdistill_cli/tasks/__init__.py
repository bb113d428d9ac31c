"""Tasks: where the data comes from, what the labels mean, and how predictions are scored."""

from selfdistill_cli.tasks.data import TaskData, load_task
from selfdistill_cli.tasks.split import Split

__all__ = ["Split", "TaskData", "load_task"]
