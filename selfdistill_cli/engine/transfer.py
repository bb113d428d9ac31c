"""Copies between processor and device: to it without waiting for it, back from it many at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """This tensor on that device. To a card it is copied from pinned memory, in the order of the card's work: nobody waits."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """These tensors on the CPU: whatever there are of one type on a device come in one copy, for which it is waited."""
    found = list(tensors)
    alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for number, tensor in enumerate(found):
        if tensor.device.type != "cpu":
            alike.setdefault((tensor.device, tensor.dtype), []).append(number)
    for numbers in alike.values():
        together = torch.cat([found[number].flatten() for number in numbers]).cpu()
        parts = torch.split(together, [found[number].numel() for number in numbers])
        for number, part in zip(numbers, parts, strict=True):
            found[number] = part.view(found[number].shape)
    return found
