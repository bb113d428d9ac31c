"""model/ of a finished run: weights, tokenizer, and the card that says how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.models import LoadedModel
from selfdistill_cli.models.lora import save_with_lora
from selfdistill_cli.models.sources import hub_id
from selfdistill_cli.runs.results import Results
from selfdistill_cli.system.environment import environment
from selfdistill_cli.system.files import new_folder


def save_model(
    path: Path, model: Any, loaded: LoadedModel, cfg: DictConfig, pipeline_tag: str, results: Results
) -> None:
    """model/: weights, tokenizer and model card, as `from_pretrained` reads them."""
    with new_folder(path) as folder:
        if cfg.model.lora.rank is None:
            model.save_pretrained(folder)
        else:
            save_with_lora(model, cfg.model, folder)
        loaded.tokenizer.save_pretrained(folder)
        write_model_card(folder / "README.md", cfg, pipeline_tag, results)


def write_model_card(path: Path, cfg: DictConfig, pipeline_tag: str, results: Results) -> None:
    """Write README.md in the Hugging Face Hub's form."""
    library = "transformers"
    if (path.parent / "adapter_config.json").exists():
        library = f"peft\nbase_model: {hub_id(cfg.model.name)}"
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in (results.metrics["final"] or {}).items())
    versions = environment()
    packages = ", ".join(f"{name} {version}" for name, version in versions["packages"].items())
    warning = (
        "\nThe data is synthetic: these scores compare with nothing but themselves.\n" if results.synthetic else ""
    )
    path.write_text(
        f"""---
library_name: {library}
pipeline_tag: {pipeline_tag}
tags:
- self-distillation
- {results.method}
---

# {results.model} fine-tuned on {results.task} by {results.method}

Starting weights: {cfg.model.name}. Data: {results.task}, {results.train_examples:,} training examples (fingerprint {results.fingerprints["data"][:12]}).
{warning}
| metric (validation) | value |
|---|---|
{scores}

{results.examples_forwarded:,} examples forwarded in {results.steps:,} steps; best epoch {results.best_epoch:g}; seed {results.seed}; run {results.key}.

## Method

```yaml
{OmegaConf.to_yaml(cfg.method, resolve=True).strip()}
```

## Schedule

```yaml
{OmegaConf.to_yaml(cfg.schedule, resolve=True).strip()}
```

## Versions

selfdistill_cli {versions["selfdistill_cli"]}, Python {versions["python"]}, {packages}.
""",
        encoding="utf-8",
    )
