"""Checks on the settings of a method that no type or bound expresses."""

from __future__ import annotations

import math
import string

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError


def check_method(cfg: DictConfig) -> None:
    """Raise `UserError` where the method's settings contradict one another or the rest, or it would never act."""
    method = cfg.method
    passes = method.get("passes", 1)  # a plugin's own need not have a schema, which would have held it to its bounds
    if isinstance(passes, bool) or not isinstance(passes, int | float) or not 0 < passes < math.inf:
        raise UserError(f"method.passes={passes}: must be a number greater than 0.")
    if method.get("match") == "token" and method.get("overlap") == "none":
        raise UserError(
            "method.match=token with method.overlap=none: batches without a common example have answers of different "
            "lengths, so there are no pairs of tokens. Take method.match=vmm, whose maps have no length, or "
            "method.overlap=append or half."
        )
    if method.get("match") == "token" and method.get("outputs") == "sampled":
        raise UserError(
            "method.match=token with method.outputs=sampled: a drawn answer and the gold one have different lengths, so "
            "there are no pairs of tokens. Take method.match=vmm, whose maps have no length."
        )
    if method.get("demonstration") is not None:
        _check_demonstration(method.demonstration)
    if method.get("overlap") == "half" and cfg.schedule.batch_size < 2:
        raise UserError("method.overlap=half needs schedule.batch_size of at least 2: the batch holds both halves.")
    if method.get("factor") == "lambda" and method.lambda_ < 1:
        raise UserError(
            f"method.lambda_={method.lambda_}: must be at least 1, the factor by which a discordant example gains "
            "(with method.factor=exp the factor is e^λ and λ may start at 0)."
        )

    lora_drops = cfg.model.lora.rank is not None and cfg.model.lora.dropout > 0
    if getattr(OmegaConf.get_type(method), "needs_dropout", False) and cfg.model.dropout == 0 and not lora_drops:
        raise without_dropout(cfg, "with model.dropout=0 there is none")
    _check_that_it_acts(cfg)


def _check_demonstration(template: str) -> None:
    """Refuse a template of the teacher's prompt that cannot be filled in."""
    known = {"prompt": "2 + 3?", "answer": "5"}
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        wrong = [f"there is no {{{field}}}" for field in fields if field not in known]
        wrong += [f"it lacks {{{field}}}" for field in known if field not in fields]
        if not wrong:
            template.format(**known)
    except ValueError as error:
        raise UserError(
            f"method.demonstration={template!r} cannot be read: {error}. Type other braces twice."
        ) from None
    if wrong:
        raise UserError(
            f"method.demonstration={template!r}: {wrong[0]}. It takes {{prompt}}, the prompt of the task, and {{answer}}, "
            "the gold answer."
        )


def without_dropout(cfg: DictConfig, why: str) -> UserError:
    """What to say of a method that compares passes, where there is no dropout; `why` says so in words."""
    return UserError(
        f"method={cfg.method.name} compares passes of the same example that differ by dropout alone, and {why}: they "
        "would be equal. Give it some: model.dropout=0.1."
    )


def _check_that_it_acts(cfg: DictConfig) -> None:
    """Refuse a method that would be plain training under another name, and settings that another one makes void."""
    if cfg.schedule.max_steps is None and cfg.schedule.epochs > 0:
        words = never_acts(cfg.method, cfg.schedule.epochs * cfg.method.get("passes", 1))
        if words:
            raise UserError(f"{words} Choose a smaller value, a longer schedule.epochs, or method=vanilla.")


def never_acts(method: DictConfig, epochs: float, step: float = 0.0) -> str:
    """What to say of a method that begins after the last step of a training of so many epochs; empty if it acts.

    step: epochs that a step takes, once it is known.
    """
    for name in ("start_epoch", "warmup_epochs"):
        begins = method.get(name)
        if isinstance(begins, int | float) and begins > 0 and 0 < epochs <= begins + step * (1 - 1e-6):
            last = f", its last step begins at {epochs - step:.4g}" if step else ""
            return (
                f"method.{name}={begins:g}: training ends after {epochs:.4g} epochs{last}, so nothing of {method.name} "
                "would ever act: it would be plain training."
            )
    return ""
