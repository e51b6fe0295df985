"""Attention: the module, the fast kernel it calls, and the written-out formula that tests hold the kernel to.

Shapes in names: B batch, T queries, S keys, D hidden_size, H attention heads, K key/value heads, N head_dim.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.model.chunks import CHUNK, attend_in_chunks
from tilth.model.config import LayerType, ModelConfig
from tilth.model.dropout import Dropout
from tilth.model.kv_cache import KVCache
from tilth.model.layers import Linear, RMSNorm, apply_rotary

Rotary = tuple[Tensor, Tensor]


def document_mask(doc_ids_BT: Tensor, causal: bool = True) -> Tensor:
    """[B, 1, T, T] boolean: a query sees the keys before it (and itself) in its own document; all of them where it is
    not causal.
    """
    same_BTT = doc_ids_BT[:, :, None] == doc_ids_BT[:, None, :]
    if not causal:
        return same_BTT[:, None]
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


def attend(
    q_BHTN: Tensor,
    k_BKSN: Tensor,
    v_BKSN: Tensor,
    mask: Tensor | None,
    dropout: Dropout | None = None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    causal: bool = True,
    window: int | None = None,
) -> Tensor:
    """The same as `reference_attention`, fast: torch's fused kernels, or plain products where those are faster.

    Causal (unless told otherwise) when no mask is given, which is the fast case: no mask is read.

    Args:
        dropout: of the weights; left out: none.
        scale: what scores are multiplied by; left out: 1 / sqrt(N).
        softcap: scores become c tanh(score / c), which no fused kernel of torch does: plain products then.
        window: that the mask has, where it has one.
    """
    queries, keys = q_BHTN.shape[2], k_BKSN.shape[2]
    on_cpu, drops = q_BHTN.device.type == "cpu", dropout is not None and dropout.p > 0 and dropout.training
    short = on_cpu and q_BHTN.dtype == torch.bfloat16 and queries > 1 and keys <= SHORT
    written_out = short or softcap or (on_cpu and drops)  # torch has no fused kernel with dropout on a CPU
    if mask is None and causal and (1 < queries < keys or written_out):
        mask = causal_mask(queries, keys, k_BKSN.device)
    if written_out:
        scale = 1 / math.sqrt(q_BHTN.shape[-1]) if scale is None else scale
        return _plain_products(q_BHTN, k_BKSN, v_BKSN, mask, dropout, scale, softcap)
    if mask is not None and on_cpu and 2 * CHUNK < queries == keys:
        mask_BHTS = mask[(None,) * (4 - mask.dim())]  # a window alone is the same in all rows and heads: [T, S]
        return attend_in_chunks(q_BHTN, k_BKSN, v_BKSN, mask_BHTS, scale, window)
    causal = causal and mask is None and queries > 1
    grouped = q_BHTN.shape[1] != k_BKSN.shape[1]
    if grouped and mask is not None and q_BHTN.device.type == "cuda":
        # torch 2.13's fused kernels take a mask or groups; with both, all scores would be written out.
        groups = q_BHTN.shape[1] // k_BKSN.shape[1]
        k_BKSN, v_BKSN, grouped = k_BKSN.repeat_interleave(groups, 1), v_BKSN.repeat_interleave(groups, 1), False
    p = dropout.p if dropout is not None and drops else 0.0
    return F.scaled_dot_product_attention(
        q_BHTN, k_BKSN, v_BKSN, attn_mask=mask, dropout_p=p, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def avoid_broken_kernels(context_length: int) -> None:
    """To be called before anything is computed with masks on CUDA. From torch 2.11 on cuDNN's kernel comes first there
    on Hopper and Blackwell; with a mask its gradient of the queries can be no number where T % 128 is 64
    (https://github.com/pytorch/pytorch/issues/196678).
    """
    if context_length % 128 == 64:
        torch.backends.cuda.enable_cudnn_sdp(False)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[T, S] boolean, true where a query may look; the queries are the last of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def window_mask(mask: Tensor | None, queries: int, keys: int, window: int, device: torch.device) -> Tensor | None:
    """`mask` (causal when there is none) without the keys that lie `window` or more tokens back; None where it is
    causal and no key does.
    """
    if keys <= window:
        return mask
    seen = causal_mask(queries, keys, device) if mask is None else mask
    return seen & ~torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries - window)


def _plain_products(
    q_BHTN: Tensor,
    k_BKSN: Tensor,
    v_BKSN: Tensor,
    mask: Tensor | None,
    dropout: Dropout | None,
    scale: float,
    cap: float | None,
) -> Tensor:
    """Batched products; the heads of a group are stacked as further queries of their key head."""
    batch, heads, queries, width = q_BHTN.shape
    kv_heads, keys = k_BKSN.shape[1], k_BKSN.shape[2]
    groups = heads // kv_heads
    stacked = q_BHTN.reshape(batch, kv_heads, groups * queries, width) * scale
    scores = (stacked @ k_BKSN.transpose(-1, -2)).view(batch, kv_heads * groups, queries, keys)
    if cap:
        scores = (scores / cap).tanh() * cap
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q_BHTN.dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
        scores = scores + bias
    weights = scores.softmax(-1)
    weights = weights if dropout is None else dropout(weights)
    out = weights.view(batch, kv_heads, groups * queries, keys) @ v_BKSN
    return out.view(batch, heads, queries, width)


class Attention(nn.Module):
    """Multi-head or grouped-query self-attention, with rotary positions and QK-norm where the config has them."""

    def __init__(self, config: ModelConfig, kind: LayerType) -> None:
        super().__init__()
        self.head_dim = config.head_size
        self.dropout, self.residual_dropout = Dropout(config.attention_drop), Dropout(config.dropout)
        self.softcap, self.causal = config.attn_logit_softcapping, config.is_causal
        self.window = config.sliding_window if kind == "sliding_attention" else None
        scalar = config.query_pre_attn_scalar
        self.scale = None if scalar is None else 1 / math.sqrt(scalar)
        hidden, (bias, output_bias, _) = config.hidden_size, config.biases
        width, kv_width = config.num_attention_heads * self.head_dim, config.key_value_heads * self.head_dim
        self.q_proj = Linear(hidden, width, bias=bias)
        self.k_proj = Linear(hidden, kv_width, bias=bias)
        self.v_proj = Linear(hidden, kv_width, bias=bias)
        self.o_proj = Linear(width, hidden, bias=output_bias)
        self.norm_whole = config.qk_norm_over == "width"
        sizes = (width, kv_width) if self.norm_whole else (self.head_dim, self.head_dim)
        q_norm, k_norm = (RMSNorm(size, config.norm_eps, config.norm_plus_one) for size in sizes)
        self.q_norm = q_norm if config.qk_norm else None
        self.k_norm = k_norm if config.qk_norm else None

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        q, k, v = self.q_proj(x_BTD), self.k_proj(x_BTD), self.v_proj(x_BTD)
        if self.norm_whole:
            q, k = self._normed(q, k)
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        if not self.norm_whole:
            q, k = self._normed(q, k)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        window = None if mask is None else self.window  # not read otherwise: a graph is made for each that is
        out_BHTN = attend(
            q, k, v, mask, self.dropout, scale=self.scale, softcap=self.softcap, causal=self.causal, window=window
        )
        projected: Tensor = self.residual_dropout(self.o_proj(out_BHTN.transpose(1, 2).flatten(2)))
        return projected

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return (q, k) if self.q_norm is None or self.k_norm is None else (self.q_norm(q), self.k_norm(k))

    def _heads(self, x_BTX: Tensor) -> Tensor:
        batch, time, _ = x_BTX.shape
        return x_BTX.view(batch, time, -1, self.head_dim).transpose(1, 2)
