"""Models: pretrained or embedded, with their tokenizers, ready to be trained."""

from selfdistill_cli.models.loading import LoadedModel, load_finished, load_model, weights_digest

__all__ = ["LoadedModel", "load_finished", "load_model", "weights_digest"]
