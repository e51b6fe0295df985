"""The small parts: norms, rotary positions, MLPs.

Shapes in names: B batch, T time, D hidden_size, H attention heads, K key/value heads, N head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.model.config import ModelConfig


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019), computed in fp32 under autocast."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return _for_products(F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps))


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
        return RMSNorm(config.hidden_size, config.norm_eps)
    return LayerNorm(config.hidden_size, config.norm_eps, config.bias)


def rotary_tables(positions_BT: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin [B, 1, T, N/2] (fp32) of RoPE (Su et al. 2021), computed once per forward pass and shared by all
    layers.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions_BT.device, dtype=torch.float32) / head_dim
    angles = positions_BT[:, None, :, None].float() * theta**-exponents
    return angles.cos(), angles.sin()


def apply_rotary(x_BHTN: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates the pairs (i, i + N/2) of each head, the pairing of Hugging Face's Llama."""
    cos, sin = (table.to(x_BHTN.dtype) for table in tables)
    first, second = x_BHTN.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class MLP(nn.Module):
    """Two matrices with GELU or squared ReLU (So et al. 2021) between; three when gated (SwiGLU, Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.mlp_size
        self.activation = config.activation
        self.gate_proj = nn.Linear(hidden, inner, bias=config.bias) if config.activation == "swiglu" else None
        self.up_proj = nn.Linear(hidden, inner, bias=config.bias)
        self.down_proj = nn.Linear(inner, hidden, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        up = self.up_proj(x_BTD)
        if self.gate_proj is not None:
            inner = F.silu(self.gate_proj(x_BTD)) * up
        elif self.activation == "relu2":
            inner = F.relu(up).square()
        else:
            inner = F.gelu(up, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        out: Tensor = self.dropout(self.down_proj(inner))
        return out
