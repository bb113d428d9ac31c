"""Tasks: where the data comes from, what the labels mean, and how predictions are scored."""

from selfdistill_cli.tasks.data import Split, TaskData, load_task

__all__ = ["Split", "TaskData", "load_task"]
