"""What a run tells while it runs: metrics.jsonl, the terminal, Weights & Biases."""

from selfdistill_cli.tracking.recorder import MetricsRecorder, SilentRecorder, Watcher
from selfdistill_cli.tracking.terminal import Terminal
from selfdistill_cli.tracking.weights_and_biases import WandbTracker

__all__ = ["MetricsRecorder", "SilentRecorder", "Terminal", "WandbTracker", "Watcher"]
