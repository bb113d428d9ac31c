"""model/ of a finished run: weights, tokenizer, and the card that says how to use them and how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData, try_to_load_from_cache
from huggingface_hub.repocard import metadata_load
from omegaconf import DictConfig

from selfdistill_cli.config.weights import PACKAGES, is_gguf
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.models.embedded import EMBEDDED
from selfdistill_cli.models.gguf import RoundedStart
from selfdistill_cli.models.lora import is_adapter, save_with_lora
from selfdistill_cli.models.quantization import in_snippet
from selfdistill_cli.models.sources import hub_id, resolve
from selfdistill_cli.runs.keys import model_slug, scientific_settings
from selfdistill_cli.runs.results import Results
from selfdistill_cli.system.environment import environment
from selfdistill_cli.system.files import new_folder
from selfdistill_cli.tasks import TaskData

HUB_METRICS = {
    **{"macro_f1": "f1", "macro_precision": "precision", "macro_recall": "recall", "auroc": "roc_auc"},
    **{"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"},
}
"""Metrics that the Hub knows by another name."""


def save_model(path: Path, model: Any, loaded: LoadedModel, cfg: DictConfig, task: TaskData, results: Results) -> None:
    """model/: weights, tokenizer and model card, as `from_pretrained` reads them."""
    task.kind.before_saving(task, loaded, model)
    with new_folder(path) as folder:
        if cfg.model.lora.rank is None:
            model.save_pretrained(folder)
        else:
            save_with_lora(model, cfg.model, folder)
        loaded.tokenizer.save_pretrained(folder)
        if loaded.rounded is not None:
            loaded.rounded.keep(folder)
        snippet = in_snippet(task.kind.snippet(task, loaded, is_adapter(folder)), loaded.model.config)
        tag = task.kind.hub_tag(loaded.model.config)
        write_model_card(folder / "README.md", cfg, task, results, tag, snippet, loaded.rounded)
        _as_readable_as(folder / "README.md")


def _as_readable_as(sample: Path) -> None:
    """Give every file beside `sample` its permissions: safetensors writes what only its owner may read."""
    for entry in sample.parent.iterdir():
        if entry.is_file():
            entry.chmod(sample.stat().st_mode)


def write_model_card(
    path: Path,
    cfg: DictConfig,
    task: TaskData,
    results: Results,
    tag: str,
    snippet: str,
    rounded: RoundedStart | None,
) -> None:
    """Write README.md in the Hugging Face Hub's form; of settings it names those that acted."""
    adapter = is_adapter(path.parent)
    about = _metadata(cfg, task, results, tag, adapter)
    science = scientific_settings(cfg)
    method = {name: value for name, value in science["method"].items() if name != "_target_"}
    settings = {"method": method, "schedule": science["schedule"]}
    settings |= {"lora": science["model"]["lora"]} if "lora" in science["model"] else {}
    versions = environment()
    packages = ", ".join(f"{name} {version}" for name, version in versions["packages"].items())
    chosen = _choice(task, results) if cfg.schedule.keep == "best" and results.best_epoch != results.epochs else ""
    title = f"{results.model} fine-tuned on {results.task} by {results.method}" + " (a LoRA adapter)" * adapter
    path.write_text(
        f"""---
{about.to_yaml()}
---

# {title}

Starts from {_base_in_words(cfg, rounded)}. Data: {_data_in_words(cfg, results)}; {results.train_examples:,} training examples.
{_warning(results)}
## Use

```python
{snippet.strip()}
```

## Scores

| metric | split | value |
|---|---|---|
{_scores(task, results)}

{results.examples_forwarded:,} examples forwarded in {results.steps:,} steps; epoch {results.best_epoch:g} of {results.epochs:g}; seed {results.seed}; run {results.key}.{chosen}

## Settings

```yaml
{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip()}
```

## Versions

selfdistill_cli {versions["selfdistill_cli"]}, Python {versions["python"]}, {packages}. Fingerprint of the data: {results.fingerprints["data"][:12]}.
""",
        encoding="utf-8",
    )


def _choice(task: TaskData, results: Results) -> str:
    by = f" The epoch was chosen by {results.metric} on"
    if results.selection_score is None:
        return f"{by} {task.validation[0].name}, so its score there is a little too good."
    return f"{by} a part of the training split that was held out ({results.selection_score:.4f})."


def _data_in_words(cfg: DictConfig, results: Results) -> str:
    """Where the data came from; of own files their names, not the folders of somebody's machine."""
    own = cfg.task.path, cfg.task.validation_path
    files = [Path(path).name for path in own if path]
    if cfg.task.path is None:
        return ", validated on ".join([results.data, *files])
    if cfg.task.validation_path is not None:
        return ", ".join(files)
    part = "a fifth" if cfg.task.folds is None else f"fold {cfg.task.fold} of {cfg.task.folds}, counted from 0,"
    return f"{files[0]} ({part} held out for validation)"


def _warning(results: Results) -> str:
    return "\nThe data is synthetic: these scores compare with nothing but themselves.\n" if results.synthetic else ""


def _named_scores(task: TaskData, results: Results) -> list[tuple[str, str, float]]:
    """Metric, split and value of every final score."""
    found = []
    for name, value in (results.metrics["final"] or {}).items():
        split, _, metric = name.rpartition("/")
        found.append((metric, split or task.validation[0].name, value))
    found += [(name, "test", value) for name, value in (results.metrics.get("test") or {}).items()]
    return found


def _scores(task: TaskData, results: Results) -> str:
    rows = [f"| {metric} | {split} | {value:.4f} |" for metric, split, value in _named_scores(task, results)]
    if results.majority:
        always, split = results.majority, task.validation[0].name
        rows.append(f"| {results.metric} of always saying '{always['label']}' | {split} | {always['score']:.4f} |")
    return "\n".join(rows)


# --- what the Hub reads ---------------------------------------------------------------------------


def _metadata(cfg: DictConfig, task: TaskData, results: Results, tag: str, adapter: bool) -> ModelCardData:
    """The card's head: only what is known."""
    known = _base_metadata(cfg.model.name)
    base = _base_on_hub(cfg.model.name) or known.get("base_model")
    own_file = any((cfg.task.path, cfg.task.validation_path, cfg.task.test_path))
    data_set = cfg.task.hub.path if cfg.task.hub is not None and not own_file else None
    scores = [
        EvalResult(
            task_type=tag,
            dataset_type=data_set or results.task,
            dataset_name=results.task,
            dataset_config=cfg.task.hub.config if data_set else None,
            dataset_split=split,
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=metric,
            metric_value=round(value, 6),
        )
        for metric, split, value in _named_scores(task, results)
    ]
    return ModelCardData(
        model_name=f"{results.model}-{results.task}-{results.method}",
        library_name="peft" if adapter else "transformers",
        pipeline_tag=tag,
        language=known.get("language"),
        license=known.get("license"),
        base_model=base,
        datasets=[data_set] if data_set else None,
        tags=["self-distillation", results.method, *(["lora"] if cfg.model.lora.rank is not None else [])],
        eval_results=scores,
    )


def _base_on_hub(name: str) -> str | None:
    """The Hub id of the starting weights, if they have one."""
    local = name in EMBEDDED or (name not in PACKAGES and (is_gguf(name) or Path(name).expanduser().is_dir()))
    return None if local else hub_id(name)


def _base_in_words(cfg: DictConfig, rounded: RoundedStart | None) -> str:
    if cfg.model.name in EMBEDDED:
        return f"random weights ({cfg.model.name})"
    weights = f"the weights of {_base_on_hub(cfg.model.name) or model_slug(cfg.model.name)}"
    return weights if rounded is None else f"{weights}: {rounded.words}"


def _base_metadata(name: str) -> dict[str, Any]:
    """What the card of the starting weights says: licence, language, its own base. Nothing where there is no card."""
    if name in EMBEDDED:
        return {}
    if is_gguf(name):
        return {"license": PACKAGES[name].license} if name in PACKAGES else {}
    source = resolve(name)
    card = Path(source, "README.md") if Path(source).is_dir() else try_to_load_from_cache(source, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return {}
    try:
        return metadata_load(card) or {}
    except ValueError:  # a card whose head is no YAML says nothing
        return {}
