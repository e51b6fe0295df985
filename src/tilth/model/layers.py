"""The small parts: linear layers and embeddings that draw nothing, norms, rotary positions, MLPs.

Shapes in names: B batch, T time, D hidden_size, H attention heads, K key/value heads, N head_dim.
"""

from __future__ import annotations

import copy
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from tilth.model.config import ModelConfig
from tilth.model.dropout import Dropout
from tilth.model.paper import in_graph
from tilth.model.rope import RopeScaling, frequencies


class Linear(nn.Linear):
    """nn.Linear whose numbers are unset until they are drawn or loaded."""

    def reset_parameters(self) -> None:
        """Draws nothing: torch's draws cost time, and on the meta device import its compiler, which takes a second."""


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer and nothing else: a subclass of others' may do something else with its weight."""
    return type(module) in (nn.Linear, Linear) or _computes_the_same(module)


_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


@torch.no_grad()
def _computes_the_same(module: nn.Module) -> bool:
    """Whether a subclass (Falcon has one) gives x W' + b, tried with few numbers in place of its weights, which may not
    be there yet. Those of torch are other things: quantized, lazy, or read without being called.
    """
    if not isinstance(module, nn.Linear) or type(module).__module__.partition(".")[0] == "torch":
        return False
    if not module.weight.is_floating_point() or module.weight.shape != (module.out_features, module.in_features):
        return False
    if {*module._parameters} != {"weight", "bias"} or module._buffers or module._modules:
        return False
    with _disable_current_modes():  # a model on paper computes no numbers
        return _as_linear(copy.copy(module))


def _as_linear(copied: nn.Linear) -> bool:
    numbers = torch.arange(38, dtype=torch.float32, device="cpu").sin()
    weight_OI, x_BTI = numbers[:15].view(3, 5), numbers[15:35].view(2, 2, 5)
    bias_O = None if copied.bias is None else numbers[35:]
    copied.__dict__ |= {"_parameters": {"weight": weight_OI, "bias": bias_O}, "in_features": 5, "out_features": 3}
    try:
        given = [type(copied).forward(copied.train(training), x_BTI) for training in (False, True)]
    except _FAULTS:
        return False
    wanted = F.linear(x_BTI, weight_OI, bias_O)
    return all(isinstance(y, Tensor) and y.shape == wanted.shape and torch.allclose(y, wanted) for y in given)


class Embedding(nn.Embedding):
    """nn.Embedding whose numbers are unset until they are drawn or loaded."""

    def reset_parameters(self) -> None:
        """Draws nothing; see `Linear`."""


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019), computed in fp32 under autocast.

    Args:
        plus_one: multiply by 1 + weight, whose weight then starts from zero (Gemma).
    """

    def __init__(self, size: int, eps: float, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps
        self.plus_one = plus_one

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + 1 if self.plus_one else self.weight
        return _for_products(F.rms_norm(x, self.weight.shape, weight.to(x.dtype), self.eps))


class LayerNorm(nn.Module):
    """LayerNorm (Ba et al. 2016) whose bias can be left out."""

    def __init__(self, size: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return _for_products(F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, self.eps))


def _for_products(x: Tensor) -> Tensor:
    """A normed tensor is read by several products: under autocast it is cast once, here, and not once by each."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def make_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """The norm that the config names, over hidden_size."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps, config.norm_plus_one)
    return LayerNorm(config.hidden_size, config.norm_eps, config.bias)


def rotary_tables(
    positions_BT: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin [B, 1, T, N/2] (fp32) of RoPE (Su et al. 2021), computed once per forward pass and shared by all
    layers.
    """
    turns, growth = frequencies(head_dim, theta, scaling, positions_BT.device)
    angles = positions_BT[:, None, :, None].float() * turns
    return (angles.cos(), angles.sin()) if growth == 1 else (angles.cos() * growth, angles.sin() * growth)


def apply_rotary(x_BHTN: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates the pairs (i, i + N/2) of each head, the pairing of Hugging Face's Llama."""
    cos, sin = (table.to(x_BHTN.dtype) for table in tables)
    first, second = x_BHTN.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def activate(x: Tensor, name: str) -> Tensor:
    """The function that `activation` names; of gated ones that of the gate."""
    if name == "swiglu":
        return F.silu(x)
    if name == "relu":
        return F.relu(x)
    if name == "relu2":
        return F.relu(x).square()
    return F.gelu(x, approximate="tanh" if name.endswith("_tanh") else "none")


class _Gated(torch.autograd.Function):
    """activate(gate) x up, of which the way back keeps gate and up alone: what the gate becomes is computed again, one
    pass over it for a tensor less in each layer. The same bits as the two steps written out.
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, name: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.name = name
        return activate(gate, name).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        (gradient,) = gradients
        by_up, inner = gradient * activate(gate, ctx.name), gradient * up  # not in place: they may be differentiated
        if ctx.name == "swiglu" and torch.is_grad_enabled():  # torch has no derivative of its own kernel
            share = gate.sigmoid()
            by_gate = inner * share * (1 + gate * (1 - share))
        elif ctx.name == "swiglu":
            by_gate = torch.ops.aten.silu_backward(inner, gate)
        else:
            approximate = "tanh" if ctx.name.endswith("_tanh") else "none"
            by_gate = torch.ops.aten.gelu_backward(inner, gate, approximate=approximate)
        return by_gate, by_up, None


def _gated(gate: Tensor, up: Tensor, name: str) -> Tensor:
    if in_graph(gate) or torch._C._are_functorch_transforms_active():
        return activate(gate, name) * up
    product: Tensor = _Gated.apply(gate, up, name)  # type: ignore[no-untyped-call]
    return product


class MLP(nn.Module):
    """Two matrices with GELU or (squared) ReLU (So et al. 2021) between; three when gated (GLU, Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner, (_, _, bias) = config.hidden_size, config.mlp_size, config.biases
        self.activation = config.activation
        self.gate_proj = Linear(hidden, inner, bias=bias) if config.gated else None
        self.up_proj = Linear(hidden, inner, bias=bias)
        self.down_proj = Linear(inner, hidden, bias=bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        up = self.up_proj(x_BTD)
        if self.gate_proj is not None:
            inner = _gated(self.gate_proj(x_BTD), up, self.activation)
        else:
            inner = activate(up, self.activation)
        out: Tensor = self.dropout(self.down_proj(inner))
        return out


class MLMHead(nn.Module):
    """BERT's dense layer, activation and norm between the last block and the output (Devlin et al. 2019)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.norm = make_norm(config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.norm(activate(self.dense(x_BTD), self.activation))
        return out
