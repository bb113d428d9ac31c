"""Models that do not fit one card: every process keeps a part of each matrix, of its gradient and of its moments.

A matrix is made whole where its layer uses it, and again in the backward pass; its gradient goes back as a sum, each
process keeping its part (Rajbhandari et al., ZeRO, arXiv 1910.02054, stage 3). It is done as SimpleFSDP does it (arXiv
2411.00284): the parameter is a DTensor, and reading it as an attribute of its module gathers it. Vectors, a thousandth
of a model, stay whole in each process.

Accelerate's FSDP2 and the `fully_shard` below it are not used, since their hooks write gathered weights over those
that `engine.forwards.with_weights` puts into a model (an averaged teacher would silently be the student), and expect
every forward pass to end and every backward pass to begin at the whole model: losses over large vocabularies leave it
before the output layer (`models.output_layer`). They also average gradients, which here are sums.

Gathering is something that all processes do at the same time. So they forward equally many micro-batches
(`engine.step`, `Runtime.own_share`), and the output layer, which losses read as often as they like, is gathered when
a forward pass of the model begins and is held until the next step.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard

OWN, WHOLE = "_own_output", "_held_whole"
"""Attributes of a part of an output layer: that the model itself has it; and the whole matrix, while it is held."""


# --- what a model keeps ---------------------------------------------------------------------------


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Keep of each matrix the rows of this process, on its device. The model is the same in every process before.

    Names and shapes of the parameters stay as they were.
    """
    parts: dict[int, nn.Parameter] = {}  # tied weights are one parameter
    for module in list(model.modules()):
        module._buffers |= {name: b.to(mesh.device_type) for name, b in module._buffers.items() if b is not None}
        own = {name: p for name, p in module._parameters.items() if p is not None}
        matrices = {name: p for name, p in own.items() if p.dim() >= 2}
        for parameter in own.values():
            if parameter.dim() < 2:
                parameter.data = parameter.data.to(mesh.device_type)
        for name, parameter in matrices.items():
            if id(parameter) not in parts:
                parts[id(parameter)] = nn.Parameter(part_of(parameter.data, mesh), parameter.requires_grad)
            module._parameters[name] = parts[id(parameter)]
        if matrices:
            plain: Any = type(module)
            module.__class__ = _sharded_class(plain, tuple(matrices))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft's model around it
    output = base.get_output_embeddings()
    if output is None:
        return
    for parameter in output.parameters():
        setattr(parameter, OWN, True)
    # An encoder is called by itself before an answer is written.
    for root in (base, *([base.get_encoder()] if base.config.is_encoder_decoder else [])):
        root.register_forward_pre_hook(lambda _, __: _hold(output))


def part_of(whole: Tensor, mesh: DeviceMesh) -> DTensor:
    """This process's rows of a matrix that every process has; of few rows some processes have none."""
    rows, rank = whole.chunk(mesh.size()), mesh.get_local_rank()
    own = (rows[rank] if rank < len(rows) else whole[:0]).to(mesh.device_type, copy=True)
    return DTensor.from_local(own, mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride())


def is_sharded(model: nn.Module) -> bool:
    """Whether any matrix of it is kept in parts."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def whole_of(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be kept in parts; all processes ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def make_whole(model: nn.Module, keep: bool) -> None:
    """Undo `shard`, if it was done, on the processor. Where not `keep`, matrices end up empty. All do it together."""
    if not is_sharded(model):
        return
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, DTensor):
                if id(parameter) not in found:
                    whole = parameter.detach().full_tensor()
                    data = whole.cpu() if keep else whole.new_empty(0)
                    found[id(parameter)] = nn.Parameter(data, parameter.requires_grad)
                module._parameters[name] = found[id(parameter)]
        if isinstance(module, _Sharded):
            setattr(module, "__class__", module.unsharded)  # noqa: B010 - mypy takes it for another _Sharded
    if keep:
        model.cpu()


# --- checkpoints ----------------------------------------------------------------------------------


def state_made_whole(state: Any, keep: bool) -> Any:
    """A checkpoint's state with whole tensors on the processor, which `state_in_parts` takes apart again.

    All processes do it together; None in place of them where not `keep`.
    """
    if isinstance(state, DTensor):
        part: Any = state.detach()
        local, sizes = part.to_local(), {"shape": part.shape, "stride": part.stride()}
        # The best weights lie on the processor: their parts travel from the device.
        there: Any = DTensor.from_local(local, part.device_mesh, part.placements, run_check=False, **sizes)
        whole = there.full_tensor()
        return {"whole": whole.cpu() if keep else None, "on": local.device.type}
    if isinstance(state, dict):
        return {key: state_made_whole(value, keep) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(state_made_whole(value, keep) for value in state)
    return state


def state_in_parts(state: Any, model: nn.Module) -> Any:
    """What `state_made_whole` was given, as far as it is this process's part of it. model: that it is of."""
    meshes = [p.device_mesh for p in model.parameters() if isinstance(p, DTensor)]
    return _in_parts(state, meshes[0]) if meshes else state


def _in_parts(state: Any, mesh: DeviceMesh) -> Any:
    if isinstance(state, dict):
        if state.keys() == {"whole", "on"}:
            return part_of(state["whole"], mesh).to(state["on"])
        return {key: _in_parts(value, mesh) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_in_parts(value, mesh) for value in state)
    return state


# --- gradients ------------------------------------------------------------------------------------


@torch.no_grad()
def add_up_output_gradients(model: nn.Module) -> None:
    """Give each process its part of the sum of all processes' gradients of the output layer, which it held whole."""
    for parameter in model.parameters():
        whole = getattr(parameter, WHOLE, None)
        if isinstance(parameter, DTensor) and whole is not None and whole.requires_grad:
            gradient = torch.zeros_like(whole) if whole.grad is None else whole.grad
            parameter.grad = added_up(gradient, parameter.device_mesh)
            whole.grad = None


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale gradients such that the norm of them all, over all processes, is at most `limit`; the norm before."""
    own = [p.grad for p in parameters if p.grad is not None]
    parts = [gradient.to_local() for gradient in own if isinstance(gradient, DTensor)]
    others = [gradient for gradient in own if not isinstance(gradient, DTensor)]
    squared = torch.nn.utils.get_total_norm(parts).square()
    torch.distributed.all_reduce(squared)
    norm = (squared + torch.nn.utils.get_total_norm(others).to(squared) ** 2).sqrt()
    torch._foreach_mul_([*parts, *others], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def added_up(gradient: Tensor, mesh: DeviceMesh) -> DTensor:
    """This process's part of the sum of all processes' gradients of a whole matrix."""
    return DTensor.from_local(gradient, mesh, [Partial()], run_check=False).redistribute(placements=[Shard(0)])


# --- use in forward and backward passes -----------------------------------------------------------


def release_output(model: nn.Module) -> None:
    """Have the next forward pass gather the output layer anew: its weights may have changed."""
    for parameter in model.parameters():
        if hasattr(parameter, WHOLE):
            setattr(parameter, WHOLE, None)


@torch.no_grad()
def _hold(output: nn.Module) -> None:
    """Gather an output layer, unless it is held. That of other weights (`with_weights`) always."""
    for parameter in output.parameters():
        if isinstance(parameter, DTensor) and not (
            hasattr(parameter, OWN) and getattr(parameter, WHOLE, None) is not None
        ):
            setattr(parameter, WHOLE, _gathered(parameter, parameter.dtype).requires_grad_(parameter.requires_grad))


class _Gathered(torch.autograd.Function):
    """A whole matrix of its parts, in another type if asked; its gradients are added up in the type of the parts."""

    @staticmethod
    def forward(ctx: Any, part: DTensor, dtype: torch.dtype) -> Tensor:
        ctx.mesh, ctx.dtype = part.device_mesh, part.dtype
        return _gathered(part, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return added_up(gradient.to(ctx.dtype), ctx.mesh), None


def _gathered(part: Any, dtype: torch.dtype) -> Tensor:
    whole: Tensor = part.detach().to(dtype).full_tensor()
    return whole


class _Sharded(nn.Module):
    """Put before a module's own class by `shard`."""

    unsharded: type[nn.Module]
    _used: dict[int, tuple[Tensor, DTensor]] | None
    """During a forward pass: what was gathered in it, by where it lies in memory."""

    def whole(self, name: str) -> Tensor | None:
        """The parameter of this name, whole."""
        parameter = self._parameters[name]
        if not isinstance(parameter, DTensor):
            return parameter
        held = getattr(parameter, WHOLE, None)
        if held is not None:
            return held
        used = self.__dict__.get("_used")
        dtype = parameter.dtype if used is None else self._computed_in(parameter)  # others ask for its type
        whole: Tensor = _Gathered.apply(parameter, dtype)
        if used is not None:
            used[whole.untyped_storage().data_ptr()] = (whole, parameter)
        return whole

    def _computed_in(self, parameter: Tensor) -> torch.dtype:
        """As autocast would have it: gathered in that type, it travels in half the time and is not copied."""
        kind = parameter.device.type
        if isinstance(self, nn.Linear) and torch.is_autocast_enabled(kind) and parameter.dtype == torch.float32:
            return torch.get_autocast_dtype(kind)
        return parameter.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own, but that whole matrices are not kept for its backward pass: they are gathered again."""
        used: dict[int, tuple[Tensor, DTensor]] = {}

        def put_away(tensor: Tensor) -> Any:
            found = used.get(tensor.untyped_storage().data_ptr())
            if found is None:
                return tensor
            return found[1], tensor.dtype, tensor.size(), tensor.stride(), tensor.storage_offset()

        def taken_up(kept: Any) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            part, dtype, *view = kept
            return _gathered(part, dtype).as_strided(*view)

        self.__dict__["_used"] = used
        try:
            with saved_tensors_hooks(put_away, taken_up):
                return super().forward(*args, **kwargs)
        finally:
            self.__dict__["_used"] = None


@cache
def _sharded_class(plain: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """A subclass of a module's class in which reading one of these parameters gathers it."""
    read = {name: property(partial(_Sharded.whole, name=name)) for name in names}
    return type(plain.__name__, (_Sharded, plain), {"unsharded": plain, "__module__": plain.__module__, **read})
