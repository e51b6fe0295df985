"""The gate of an MLP: the same bits as its two steps written out, and a tensor less kept for the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tilth.model.config import GATED, ModelConfig
from tilth.model.layers import MLP, activate


def written_out(mlp: MLP, x: Tensor) -> Tensor:
    assert mlp.gate_proj is not None
    out: Tensor = mlp.down_proj(activate(mlp.gate_proj(x), mlp.activation) * mlp.up_proj(x))
    return out


def passed(way: Callable[[MLP, Tensor], Tensor], mlp: MLP, x: Tensor) -> tuple[list[Tensor], int]:
    """What it gives and all of its gradients, and the bytes that it keeps beside weights."""
    x, sizes = x.clone().requires_grad_(), dict[int, int]()
    weights = {p.untyped_storage().data_ptr() for p in mlp.parameters()}
    held = []

    def note(tensor: Tensor) -> Tensor:
        held.append(tensor)  # else its place is used again
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = way(mlp, x)
    mlp.zero_grad()
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()  # type: ignore[no-untyped-call]
    found = [y.detach(), x.grad, *(p.grad for p in mlp.parameters())]
    kept = sum(size for place, size in sizes.items() if place not in weights)
    return [tensor for tensor in found if tensor is not None], kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("activation", GATED)
def test_bits_are_those_of_the_two_steps_and_one_tensor_less_is_kept(activation: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    mlp = MLP(ModelConfig(hidden_size=16, intermediate_size=40, activation=activation))  # type: ignore[arg-type]
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    mlp, x = mlp.to(dtype), torch.randn(2, 7, 16, dtype=dtype)
    (ours, fewer), (theirs, more) = passed(MLP.__call__, mlp, x), passed(written_out, mlp, x)
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
    assert more - fewer == 2 * 7 * 40 * x.element_size()


@pytest.mark.parametrize("activation", GATED)
def test_it_can_be_differentiated_twice_and_by_functions(activation: str) -> None:
    torch.manual_seed(3)
    mlp = MLP(ModelConfig(hidden_size=16, intermediate_size=8, activation=activation)).double()  # type: ignore[arg-type]
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 2, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(mlp, x)
    (expected,) = torch.autograd.grad(mlp(x).sum(), x)
    found = torch.func.vmap(torch.func.grad(lambda row: mlp(row).sum()))(x.detach())
    assert torch.allclose(found, expected)


def test_without_gradients_nothing_is_kept() -> None:
    mlp = MLP(ModelConfig(hidden_size=16, intermediate_size=40, activation="swiglu"))
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        y = mlp(torch.randn(1, 3, 16))
    assert y.grad_fn is None
