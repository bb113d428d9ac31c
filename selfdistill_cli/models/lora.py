"""LoRA (arXiv 2106.09685) through peft: all weights fixed, low-rank updates beside some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from selfdistill_cli.config.weights import PACKAGES, is_gguf
from selfdistill_cli.errors import UserError, did_you_mean, first_line, how_to_install
from selfdistill_cli.models.cpu.frozen import forget_narrow
from selfdistill_cli.models.embedded import EMBEDDED
from selfdistill_cli.models.quantization import config_to_save
from selfdistill_cli.models.sources import hub_id, package_of, resolve
from selfdistill_cli.system.files import read_json
from selfdistill_cli.tasks import TaskData

KEPT_WHOLE_BY_PEFT = ("classifier", "score")
"""Ends of the names of layers that peft trains and saves whole in a classifier; others have to be named to it."""
CONFIG_FILE = "model_config.json"
"""Not config.json: of a folder that holds one, transformers expects the weights as well."""


def with_lora(model: Any, cfg: DictConfig, task: TaskData, new_modules: Sequence[str] = ()) -> Any:
    """The model with `cfg.lora` on it; `new_modules`, which are not pretrained, are trained and saved whole.

    Raises `UserError` if a target is no layer, or cannot be saved as is wished.
    """
    try:
        import peft
    except ImportError:
        raise UserError(f"model.lora needs peft: {how_to_install('lora')}") from None
    lora = cfg.lora
    settings = lora_settings(cfg, task.kind.lora_task_type(model.config))
    # A part of what peft keeps whole must not be named again: a copy of it would be trained that no pass goes through.
    further = [name for name in new_modules if not any(part.endswith(KEPT_WHOLE_BY_PEFT) for part in name.split("."))]
    if further:
        settings.modules_to_save = further
    if isinstance(lora.target_modules, ListConfig):
        _require_layers(model, list(lora.target_modules))
    try:
        adapted = peft.get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"model.lora.target_modules={lora.target_modules}: {first_line(error)}") from error
    if not is_merged_on_saving(cfg):
        # Of what others can have, not the folder that it was read from on this machine.
        adapted.active_peft_config.base_model_name_or_path = _base_name(cfg.name)
    if is_merged_on_saving(cfg) and _updates_tied(adapted):
        raise UserError(
            "model.lora.target_modules names the layer of the input or of the output, which share their weights: an update "
            "of one cannot be merged. Leave it out, or take model.lora.merge=false (embedded models and GGUF files are "
            "always merged)."
        )
    return adapted


def require_mergeable(adapted: Any, source: str) -> Any:
    """The same model, read from `source`. Raises `UserError` if merging its adapter would make another one of it."""
    if _updates_tied(adapted):
        raise UserError(
            f"{source}: its adapter updates the layer of the input or of the output, which share their weights: merged into them it "
            "would change both. Start from another model, or train one without these layers in model.lora.target_modules."
        )
    return adapted


def _updates_tied(adapted: Any) -> bool:
    layers = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    tied = layers[1] is not None and adapted.config.tie_word_embeddings
    return bool(tied and any(hasattr(layer, "lora_A") for layer in layers))


def lora_settings(cfg: DictConfig, task_type: str) -> Any:
    """peft's form of `cfg.lora`; task_type: its word for what the model does."""
    import peft

    lora = cfg.lora
    return peft.LoraConfig(
        task_type=task_type,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules)
        if isinstance(lora.target_modules, ListConfig)
        else lora.target_modules,
    )


def is_merged_on_saving(cfg: DictConfig) -> bool:
    """Whether the update is merged into the saved weights: if asked, and where no base is to be found again."""
    if cfg.lora.merge or cfg.name in EMBEDDED or is_gguf(cfg.name):
        return True
    return is_adapter(Path(resolve(cfg.name)))


def save_with_lora(model: Any, cfg: DictConfig, folder: Path) -> None:
    """Save the adapter alone, or the whole model with the update merged.

    Beside an adapter lie the configuration of the whole model, whose names of classes peft does not keep, and how it
    generates.
    """
    if is_merged_on_saving(cfg):
        forget_narrow(model)
        model.merge_and_unload().save_pretrained(folder)
        return
    model.save_pretrained(folder, save_embedding_layers=False)
    whole = model.get_base_model()
    whole.config.architectures = [type(whole).__name__]
    config_to_save(whole.config).to_json_file(folder / CONFIG_FILE)
    if whole.can_generate():
        whole.generation_config.save_pretrained(folder)


# --- adapters that lie in a folder ----------------------------------------------------------------


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter alone, without the weights that it belongs to."""
    return (folder / "adapter_config.json").is_file()


def config_file(folder: Path) -> Path | None:
    """The configuration of the whole model beside an adapter; None where there is none such."""
    return folder / CONFIG_FILE if is_adapter(folder) and (folder / CONFIG_FILE).is_file() else None


def saved_config(file: Path, of_base: Any) -> Any:
    """The configuration that a run left beside its adapter.

    Its class, which may come with the base's own code, is that of the base's configuration, or of the text part that was
    trained of it.
    """
    kind = (read_json(file) or {}).get("model_type")
    parts = (of_base, of_base.get_text_config())
    return type(next((one for one in parts if one.model_type == kind), of_base)).from_json_file(file)


def base_of(folder: Path) -> str:
    """Where the weights of an adapter's base model are. Raises `UserError` if its folder is gone."""
    import peft

    return resolve(package_of(str(peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)))


def with_adapter(model: Any, folder: Path) -> Any:
    """peft's model of this base with the adapter in the folder."""
    import peft

    return peft.PeftModel.from_pretrained(model, folder)


def is_held_whole(adapted: Any, name: str) -> bool:
    """Whether a weight of the base's, by its name, stands in a module that the adapter holds whole, such as a classifier."""
    from peft.utils import ModulesToSaveWrapper

    whole = (n for n, module in adapted.get_base_model().named_modules() if isinstance(module, ModulesToSaveWrapper))
    return any(name.startswith(f"{module}.") for module in whole)


def _base_name(name: str) -> str:
    """A Hub id, or the whole path of a folder, so that it is found from anywhere."""
    source = Path(resolve(name))
    return str(source.absolute()) if name not in PACKAGES and source.is_dir() else hub_id(name)


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
