"""The training loop: batching, steps, evaluation points, checkpoints. Knows no method and no task by name."""
