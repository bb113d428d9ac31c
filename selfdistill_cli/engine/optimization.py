"""Optimizer and learning-rate schedule from their names."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selfdistill_cli.engine.sharding import is_sharded


def make_optimizer(model: nn.Module, schedule: DictConfig) -> Optimizer:
    """The optimizer over two groups: matrices with weight decay; biases and normalisation weights without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    # Fused: one pass over each parameter instead of ten small operations, the same update.
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr, fused=True)
    if schedule.optimizer == "sgd":
        fused = not is_sharded(model)  # torch has no fused SGD of tensors in parts
        return torch.optim.SGD(groups, lr=schedule.lr, momentum=0.9, fused=fused)
    from transformers import Adafactor

    return Adafactor(groups, lr=schedule.lr, scale_parameter=False, relative_step=False)


def restore_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Take back what `state_dict` gave, bit for bit.

    torch rounds it to the precision of the parameters, but Adafactor's state is in float32 whatever theirs is.
    """
    optimizer.load_state_dict(saved)
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    numbers = (number for group in saved["param_groups"] for number in group["params"])
    for parameter, number in zip(parameters, numbers, strict=True):
        own = optimizer.state[parameter]
        for name, value in saved["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.dtype != own[name].dtype:
                own[name] = value.to(own[name].device)


def make_lr_scheduler(optimizer: Optimizer, schedule: DictConfig, total_steps: int) -> LRScheduler:
    """Linear warm-up over `warmup_ratio` of the steps, then linear, cosine or constant."""
    from transformers import get_scheduler

    name = "constant_with_warmup" if schedule.scheduler == "constant" else schedule.scheduler
    warmup = round(schedule.warmup_ratio * total_steps)
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=max(1, total_steps))
