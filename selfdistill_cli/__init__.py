"""`sdrun`: fine-tune small language models with self-distillation, reproducibly, from one command."""

__version__ = "0.1.0"
