"""Model and tokenizer from a name: an embedded model, a folder, an installed weights package, a Hub id."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.models.adaptation import set_dropout, set_padding
from selfdistill_cli.models.embedded import EMBEDDED, trained_tokenizer
from selfdistill_cli.models.gguf import RoundedStart, rounded_start
from selfdistill_cli.models.heads import change_head, head_change
from selfdistill_cli.models.lora import (
    base_of,
    config_file,
    is_adapter,
    is_held_whole,
    require_mergeable,
    saved_config,
    with_adapter,
    with_lora,
)
from selfdistill_cli.models.quantization import (
    arguments,
    keep_in_place,
    require_possible,
    require_rounded,
    saved_arguments,
)
from selfdistill_cli.models.sources import model_missing, resolve, shapes_in_words, state_of
from selfdistill_cli.system.network import use_hub_cache_when_offline
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks import TaskData

# A new classifier is what fine-tuning means, and one progress line is enough.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

log = logging.getLogger(__name__)

LARGE_BYTES = 2**31
"""Weights above this are read anew for each run of a sweep, rather than held twice."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be trained, and what identifies the weights that it starts from."""

    model: PreTrainedModel
    """With LoRA, peft's model around it."""
    tokenizer: Any
    fingerprint: str
    """Of the weights."""
    rounded: RoundedStart | None = None
    """The rounded weights that it comes from, if any."""
    new_modules: tuple[str, ...] = ()
    """Modules of pretrained weights that were drawn: the head."""

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of the weights, and of what the tokenizer is."""
        return {"weights": self.fingerprint, "tokenizer": tokenizer_digest(self.tokenizer)}


def load_model(cfg: DictConfig, task: TaskData, seed: int, cache: Path | None = None) -> LoadedModel:
    """The model for the task: a sequence classifier, or a language model for generation and multiple choice.

    `seed` draws every weight that is not pretrained. Pretrained weights are read once in a process; those of a GGUF
    file are kept as a plain folder below `cache`. Raises `UserError` if the model is not there, or cannot do such a task.
    """
    require_possible(cfg)
    loaded = _embedded(cfg, task, seed) if cfg.name in EMBEDDED else _from_files(cfg, task, seed, cache)
    if cfg.lora.rank is None:
        return loaded
    torch.manual_seed(seed)
    return replace(loaded, model=with_lora(loaded.model, cfg, task, loaded.new_modules))


def _embedded(cfg: DictConfig, task: TaskData, seed: int) -> LoadedModel:
    overrides = OmegaConf.to_container(cfg.config)
    assert isinstance(overrides, dict)
    tokenizer = trained_tokenizer(cfg.name, task, overrides.pop("vocab_size"))
    special = {"pad_token_id": tokenizer.pad_token_id}
    if tokenizer.eos_token_id is not None:
        special |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    if cfg.name == "tiny_t5":
        special |= {"decoder_start_token_id": tokenizer.pad_token_id}
    settings = {**overrides, "vocab_size": len(tokenizer), **special, **task.kind.head(task.label_names)}
    config = AutoConfig.for_model(EMBEDDED[cfg.name], **settings)
    set_dropout(config, cfg.dropout)
    torch.manual_seed(seed)
    model = task.kind.model_class(config).from_config(config, dtype=getattr(torch, cfg.dtype))
    return LoadedModel(model, tokenizer, hashlib.sha256(config.to_json_string().encode()).hexdigest())


def _from_files(cfg: DictConfig, task: TaskData, seed: int, cache: Path | None) -> LoadedModel:
    source = resolve(cfg.name, cache)
    pretrained = _pretrained(source, cfg, task)
    for note in pretrained.notes:
        log.info(note)
    # A copy of both: a tokenizer may be given another chat format.
    model, tokenizer = pretrained.model, pretrained.tokenizer
    if pretrained.is_shared:
        model, tokenizer = copy.deepcopy(model), copy.deepcopy(tokenizer)
    torch.manual_seed(seed)
    for module in pretrained.new_modules:
        model._init_weights(model.get_submodule(module))
    return LoadedModel(model, tokenizer, pretrained.fingerprint, rounded_start(Path(source)), pretrained.new_modules)


def load_finished(folder: Path, task: TaskData, trust_remote_code: bool = False) -> LoadedModel:
    """Model and tokenizer of a folder that `save_pretrained` wrote, an adapter's as well, with something to fill rows with.

    trust_remote_code: run code that lies in it, as a model that came with code of its own is saved. Raises `UserError`
    if it cannot be read or is no model for such a task.
    """
    trusted = {"trust_remote_code": trust_remote_code}
    try:
        if is_adapter(folder):
            base, own = base_of(folder), config_file(folder)
            if own is None:  # not of a run
                config = AutoConfig.from_pretrained(base, **trusted, **task.kind.head(task.label_names))
            else:
                config = saved_config(own, AutoConfig.from_pretrained(base, **trusted))
            given = trusted | saved_arguments(own) | {"ignore_mismatched_sizes": True}  # of a head that the run changed
            body, absent = _load(base, task, config, given)
            model = with_adapter(body, folder)
            absent = [name for name in absent if not is_held_whole(model, name)]
        else:
            model, absent = _load(folder, task, AutoConfig.from_pretrained(folder, **trusted), trusted)
        if absent:
            raise UserError(
                f"{folder} is not whole: neither it nor its base has weights for {', '.join(absent[:3])}, which would start at "
                "random. Train it anew (of a run: rerun=true)."
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
    except (ImportError, OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: another head
        raise UserError(f"{folder} holds no {task.kind.model_words}: {first_line(error)}") from error
    set_padding(tokenizer, model.config)  # a teacher may lie as on the Hub; of an adapter, the base may lack one
    return LoadedModel(model, tokenizer, weights_digest(model.state_dict()))


def _load(
    source: Path | str, task: TaskData, config: Any, arguments: dict[str, Any]
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the weights that its files do not have for it. arguments: of `from_pretrained`."""
    given = {"config": config, "use_safetensors": True, "output_loading_info": True, **arguments}
    model, loading = task.kind.model_class(config).from_pretrained(source, **given)
    return keep_in_place(model), sorted({*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])})


@dataclass(frozen=True)
class _Pretrained:
    model: PreTrainedModel
    tokenizer: Any
    new_modules: tuple[str, ...]
    """Modules with weights that the checkpoint does not hold: the classifier."""
    fingerprint: str
    is_shared: bool
    """Kept for other runs of this process, so not to be trained itself."""
    notes: tuple[str, ...] = ()
    """What the user should know of layers that it lacks, and of its head."""


_kept: dict[str, _Pretrained] = {}
"""The last pretrained models of this process."""


def _pretrained(source: str, cfg: DictConfig, task: TaskData) -> _Pretrained:
    head = task.kind.head(task.label_names)
    key = json.dumps(
        [source, OmegaConf.to_container(cfg.config), task.kind.model_words, head, cfg.dropout, cfg.dtype,
         cfg.trust_remote_code, cfg.quantization, state_of(source)]
    )  # fmt: skip
    if key not in _kept:
        loaded = _read(source, cfg, task, head)
        if not loaded.is_shared:
            return loaded
        if len(_kept) >= 2:
            _kept.clear()
        _kept[key] = loaded
    return _kept[key]


def _read(source: str, cfg: DictConfig, task: TaskData, head: dict[str, Any]) -> _Pretrained:
    if not Path(source).is_dir():
        use_hub_cache_when_offline()
    overrides: Any = OmegaConf.to_container(cfg.config)
    adapted = is_adapter(Path(source))
    try:
        weights = base_of(Path(source)) if adapted else source
        read_config = partial(
            AutoConfig.from_pretrained,
            config_file(Path(source)) or weights,
            trust_remote_code=cfg.trust_remote_code,
            **overrides,
        )
        change = head_change(read_config(), head)
        config = read_config(**head) if change is None else read_config()  # with the head that its weights have
        set_dropout(config, cfg.dropout)
        model_class = task.kind.model_class(config)
        model, loading = model_class.from_pretrained(
            weights,
            config=config,
            use_safetensors=True,  # a pickle can run code when it is loaded
            trust_remote_code=cfg.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else it says of them only that they are there
            **{"dtype": getattr(torch, cfg.dtype)} | arguments(cfg.quantization, model_class, config, cfg.dtype),
        )
        require_rounded(keep_in_place(model), cfg.quantization)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=cfg.trust_remote_code)
        missing, differ = loading["missing_keys"], loading["mismatched_keys"]
        if adapted:
            adapter = require_mergeable(with_adapter(model, Path(source)), source)
            missing = [name for name in missing if not is_held_whole(adapter, name)]
            differ = [one for one in differ if not is_held_whole(adapter, one[0])]
            model = adapter.merge_and_unload().requires_grad_()  # peft had fixed the base's weights
        if differ:
            raise UserError(_misfit(source, cfg, differ))
        absent = _layers_absent(source, model, missing)
        if change is not None:
            missing = [*missing, *change_head(model, model_class, change, head)]
    except (ImportError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(model_missing(source, error)) from error
    set_padding(tokenizer, model.config)
    missing = sorted(missing)
    known = {name: tensor for name, tensor in model.state_dict().items() if name not in missing}
    return _Pretrained(
        model,
        tokenizer,
        new_modules=tuple(dict.fromkeys(name.rpartition(".")[0] for name in missing)),
        fingerprint=weights_digest(known),
        is_shared=cfg.quantization == "none"
        and sum(p.numel() * p.element_size() for p in model.parameters()) < LARGE_BYTES,
        notes=(*absent, *([] if change is None else [change.words])),
    )


def _layers_absent(source: str, model: Any, missing: Iterable[str]) -> list[str]:
    """That layers of a model's body start at random, if they do: a new head or pooler is usual, a new layer is not."""
    body = f"{model.base_model_prefix}."
    numbered = (re.match(r"(.*?\.\d+)\.", name) for name in missing if name.startswith(body))
    layers = sorted({found.group(1) for found in numbered if found})
    if not layers:
        return []
    named = ", ".join(layers[:3]) + " …" * (len(layers) > 3)
    return [
        f"'{source}' has no weights, or not all, for {counted(len(layers), 'layer')} ({named}): they start at random"
    ]


def _misfit(source: str, cfg: DictConfig, differ: Any) -> str:
    """What to say of weights (as transformers lists them) that do not have the shapes of their configuration."""
    changed = ", ".join(f"model.config.{name}={value}" for name, value in cfg.config.items())
    way_out = (
        f"Leave {changed} out, or take model=tiny_bert or another embedded model, whose sizes are free."
        if changed
        else "Its config.json belongs to other weights: name a folder that save_pretrained wrote."
    )
    return (
        f"The model '{source}' does not fit its configuration: {shapes_in_words(differ, by='configuration')}. {way_out}"
    )


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over all that decides which tokens a text becomes; how calls truncate and pad is no part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: Any = sorted(tokenizer.get_vocab().items())  # of a slow one nothing else can be told
    if backend is not None:
        rules = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    chat = getattr(tokenizer, "chat_template", None)
    content = json.dumps([rules, special, *([chat] if chat else [])], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def weights_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names and values of the tensors."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()
