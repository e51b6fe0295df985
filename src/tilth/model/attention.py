"""Attention: the module, the fast kernel it calls, and the written-out formula that tests hold the kernel to.

Shapes in names: B batch, T queries, S keys, D hidden_size, H attention heads, K key/value heads, N head_dim.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.model.config import ModelConfig
from tilth.model.kv_cache import KVCache
from tilth.model.layers import RMSNorm, apply_rotary

Rotary = tuple[Tensor, Tensor]


def document_mask(doc_ids_BT: Tensor) -> Tensor:
    """[B, 1, T, T] boolean: a query sees the keys before it (and itself) in its own document."""
    same_BTT = doc_ids_BT[:, :, None] == doc_ids_BT[:, None, :]
    causal_TT = torch.ones(same_BTT.shape[-2:], dtype=torch.bool, device=doc_ids_BT.device).tril()
    return (same_BTT & causal_TT)[:, None]


def reference_attention(q_BHTN: Tensor, k_BKSN: Tensor, v_BKSN: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(N)) v, written out (Vaswani et al. 2017); causal when no mask is given.

    With fewer queries than keys the queries are the last ones. Slow, and only here so that something independent of
    the kernel exists.
    """
    groups = q_BHTN.shape[1] // k_BKSN.shape[1]
    k, v = k_BKSN.repeat_interleave(groups, 1), v_BKSN.repeat_interleave(groups, 1)
    scores_BHTS = q_BHTN @ k.transpose(-1, -2) / math.sqrt(q_BHTN.shape[-1])
    if mask is None:
        mask = causal_mask(q_BHTN.shape[2], k.shape[2], k.device)
    return scores_BHTS.masked_fill(~mask, float("-inf")).softmax(-1) @ v


SHORT = 512
"""Up to so many keys the written-out products beat torch's fused CPU kernel in bf16 (measured: 4.6 times at 128
tokens, 2.5 times at 256, slower from 1024 on), because that kernel gains nothing from bf16 and theirs are plain
matrix products."""


def attend(q_BHTN: Tensor, k_BKSN: Tensor, v_BKSN: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """The same as `reference_attention`, fast: torch's fused kernels, or plain products where those are faster.

    Causal when no mask is given, which is the fast case: no mask is read.
    """
    queries, keys = q_BHTN.shape[2], k_BKSN.shape[2]
    if q_BHTN.device.type == "cpu" and q_BHTN.dtype == torch.bfloat16 and queries > 1 and keys <= SHORT:
        return _plain_products(q_BHTN, k_BKSN, v_BKSN, mask, dropout)
    if mask is None and 1 < queries < keys:
        mask = causal_mask(queries, keys, k_BKSN.device)
    causal = mask is None and queries > 1
    grouped = q_BHTN.shape[1] != k_BKSN.shape[1]
    return F.scaled_dot_product_attention(
        q_BHTN, k_BKSN, v_BKSN, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[T, S] boolean, true where a query may look; the queries are the last of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _plain_products(q_BHTN: Tensor, k_BKSN: Tensor, v_BKSN: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Batched products; the heads of a group are stacked as further queries of their key head."""
    batch, heads, queries, width = q_BHTN.shape
    kv_heads, keys = k_BKSN.shape[1], k_BKSN.shape[2]
    groups = heads // kv_heads
    if mask is None:
        mask = causal_mask(queries, keys, k_BKSN.device)
    bias = torch.zeros(mask.shape, dtype=q_BHTN.dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
    stacked = q_BHTN.reshape(batch, kv_heads, groups * queries, width) * (1 / math.sqrt(width))
    scores = (stacked @ k_BKSN.transpose(-1, -2)).view(batch, kv_heads * groups, queries, keys)
    weights = F.dropout((scores + bias).softmax(-1), dropout, training=dropout > 0)
    out = weights.view(batch, kv_heads, groups * queries, keys) @ v_BKSN
    return out.view(batch, heads, queries, width)


class Attention(nn.Module):
    """Multi-head or grouped-query self-attention, with rotary positions and QK-norm where the config has them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.dropout = config.dropout
        width, kv_width = config.hidden_size, config.key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, width, bias=config.bias)
        self.k_proj = nn.Linear(width, kv_width, bias=config.bias)
        self.v_proj = nn.Linear(width, kv_width, bias=config.bias)
        self.o_proj = nn.Linear(width, width, bias=config.bias)
        self.q_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        q, k, v = (self._heads(projection(x_BTD)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        dropout = self.dropout if self.training else 0.0
        out_BTD = attend(q, k, v, mask, dropout).transpose(1, 2).flatten(2)
        projected: Tensor = self.o_proj(out_BTD)
        return F.dropout(projected, dropout, self.training) if dropout else projected

    def _heads(self, x_BTX: Tensor) -> Tensor:
        batch, time, _ = x_BTX.shape
        return x_BTX.view(batch, time, -1, self.head_dim).transpose(1, 2)
