"""LoRA (arXiv 2106.09685) through peft: all weights fixed, low-rank updates beside some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from selfdistill_cli.errors import UserError, did_you_mean, first_line
from selfdistill_cli.models.embedded import EMBEDDED
from selfdistill_cli.models.sources import hub_id
from selfdistill_cli.tasks import TaskData


def with_lora(model: Any, cfg: DictConfig, task: TaskData) -> Any:
    """The model with `cfg.lora` on it. Raises `UserError` if a target is no layer, or cannot be saved as is wished."""
    try:
        import peft
    except ImportError:
        raise UserError("model.lora needs peft: pip install 'selfdistill_cli[lora]'.") from None
    lora = cfg.lora
    targets = list(lora.target_modules) if isinstance(lora.target_modules, ListConfig) else lora.target_modules
    if isinstance(targets, list):
        _require_layers(model, targets)
    settings = peft.LoraConfig(
        task_type=task.kind.lora_task_type(model.config),
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    tied = model.get_output_embeddings() is not None and model.config.tie_word_embeddings
    try:
        adapted = peft.get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"model.lora.target_modules={lora.target_modules}: {first_line(error)}") from error
    # Not the folder that it was read from on this machine.
    adapted.active_peft_config.base_model_name_or_path = hub_id(cfg.name)
    if tied and hasattr(adapted.get_output_embeddings(), "lora_A") and is_merged_on_saving(cfg):
        raise UserError(
            "model.lora.target_modules names the output layer, whose weights are also those of the input: an update of "
            "one cannot be merged. Leave it out, or take model.lora.merge=false (embedded models are always merged)."
        )
    return adapted


def is_merged_on_saving(cfg: DictConfig) -> bool:
    """Whether the update is merged into the saved weights: if asked, and where there is no base to be found again."""
    return bool(cfg.lora.merge or cfg.name in EMBEDDED)


def save_with_lora(model: Any, cfg: DictConfig, folder: Path) -> None:
    """Save the adapter alone, or the whole model with the update merged."""
    if is_merged_on_saving(cfg):
        model.merge_and_unload().save_pretrained(folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)


def _require_layers(model: Any, targets: list[str]) -> None:
    """peft is content if one of the names is found; a misspelt one would silently stay as it is."""
    names = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            leaves = sorted({name.rpartition(".")[2] for name in names} - {""})
            raise UserError(
                f"model.lora.target_modules: there is no layer '{target}'.{did_you_mean(target, leaves)} "
                f"This model has {', '.join(leaf for leaf in leaves if not leaf.isdigit())}."
            )
