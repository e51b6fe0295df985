"""Weights that still lie in their files: each is read when it is known in what it will be held.

    build_unread(config, device, names, fill)   a model of which some weights are left so
    read(parameter)                             the numbers of one
    read_now(model, name)                       one, in its place in the model
    read_rest(model)                            brings those that nothing asked for

A base beside which an adapter trains is held in bf16, or in four bits, and need never be there in fp32 as a whole.
Until it is read such a weight has its shape, dtype and device, and a single NaN in place of its numbers: what computes
with it by mistake gives none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer, build

_FILL = "_tilth_fill"


def build_unread(
    config: ModelConfig,
    device: torch.device | str,
    names: Callable[[Transformer], Collection[str]],
    fill: Callable[[str, Tensor], None],
) -> Transformer:
    """A model in fp32 on `device`, its weights unset, to be loaded.

    Args:
        names: which parameters stay unread, of the model without memory.
        fill: writes the numbers of a parameter into a tensor of its shape, of any dtype and device.
    """
    with _disable_current_modes():  # on paper, too, it takes nothing yet
        model = build(config, None, "meta")
    later = set(names(model))
    for name, parameter in list(model.named_parameters()):
        shape = parameter.shape
        if name not in later:
            _put(model, name, nn.Parameter(torch.empty(shape, dtype=torch.float32, device=device)))
            continue
        number = torch.full((), float("nan"), dtype=torch.float32, device=device)
        held = nn.Parameter(number.expand(shape), requires_grad=False)
        held.__dict__[_FILL] = partial(fill, name)
        _put(model, name, held)
    return model


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    parent, _, key = name.rpartition(".")
    setattr(model.get_submodule(parent), key, parameter)


def is_unread(tensor: Tensor) -> bool:
    """Whether its numbers are still in a file."""
    return _FILL in tensor.__dict__


@torch.no_grad()
def read(tensor: Tensor, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """The numbers of an unread weight, in `dtype` on `device`, left out: in its own."""
    whole = torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=device or tensor.device)
    tensor.__dict__[_FILL](whole)
    return whole


def read_now(model: nn.Module, name: str) -> nn.Parameter:
    """A parameter of the model, read where it is still unread."""
    parameter = model.get_parameter(name)
    if is_unread(parameter):
        parameter = nn.Parameter(read(parameter), requires_grad=parameter.requires_grad)
        _put(model, name, parameter)
    return parameter


def read_rest(model: nn.Module) -> None:
    """Reads every weight of the model that is still unread."""
    for name, _ in list(model.named_parameters()):
        read_now(model, name)
