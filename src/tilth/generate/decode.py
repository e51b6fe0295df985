"""One more token of every sequence, on a CPU: what `Transformer.forward` computes for it, without what surrounds that.

    reader_of(model, samples)      how its tokens are read: by a `Decoder` where that can be
    Decoder(...)(ids, cache)       logits after one more token of each sequence, which goes into the cache
    HONOURED, NOT_OF_COMPUTATION   the keys of `ModelConfig` that it computes by, and the others

A small model's products take a millisecond or two a token, and as long again would go into modules, masks, tables and
tensors that are made anew for each of its layers. Here the layers are tuples of what they call; queries, keys and
values lie in one buffer, and tables of positions are made once. The products are the model's own (`products.py`); a
layer in four bits is called as it is. Several tokens, as a prompt has, go through the model.
Shapes in names: B batch, D hidden_size, H attention heads, K key/value heads, N head_dim, S tokens in the cache.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.generate.native import kernels, why_not
from tilth.generate.products import Change, into, product, together, with_weight
from tilth.generate.widened import fast_in_bfloat16, read_widened
from tilth.model.attention import Attention
from tilth.model.config import LayerType, ModelConfig
from tilth.model.kv_cache import KVCache
from tilth.model.layers import MLP, LayerNorm, MLMHead, RMSNorm, activate, rotary_tables
from tilth.model.transformer import Block, Transformer
from tilth.model.wrapped import AnyModel, WrappedCache

_log = logging.getLogger(__name__)

Tables = tuple[Tensor, Tensor]

AnyCache = KVCache | WrappedCache
Reader = Callable[[Tensor, AnyCache], Tensor]
"""Ids [B, T] and the cache that they go into -> logits [B, V] after the last of them."""

HONOURED = frozenset({
    "vocab_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim",
    "intermediate_size", "position", "position_offset", "rope_theta", "rope_scaling", "rope_local_base_freq",
    "norm", "norm_eps", "norm_position", "norm_plus_one", "embedding_norm", "scale_embedding", "type_vocab_size",
    "activation", "bias", "attention_bias", "attention_output_bias", "mlp_bias", "qk_norm", "qk_norm_over",
    "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "layer_types",
    "is_causal", "mlm_head", "tie_word_embeddings",
})  # fmt: skip
"""Keys of `ModelConfig` that say what a token is read as: a `Decoder` computes what they ask for, all but
`is_causal: false`, which `reader_of` gives to the model itself."""
NOT_OF_COMPUTATION = frozenset({
    "preset", "from_", "wrapped", "family", "context_length", "max_position_embeddings", "dropout",
    "attention_dropout", "initializer_range",
})  # fmt: skip
"""The others. A key in neither set would be passed over here, and fails a test."""


def reader_of(model: AnyModel, samples: int) -> Reader:
    """How `samples` sequences are read: one token at a time by a `Decoder`, if the model is tilth's own, causal, on a
    CPU, in fp32 or where there are kernels in bfloat16 (as its cache is), not in training, and no autocast is on; else
    by the model itself.
    """
    if not isinstance(model, Transformer) or model.training or not model.config.is_causal:
        return partial(next_logits, model)
    on_cpu = all(p.device.type == "cpu" for p in model.parameters()) and not torch.is_autocast_enabled("cpu")
    dtypes = {p.dtype for p in model.parameters()}
    if on_cpu and dtypes == {torch.bfloat16} and kernels() is None:
        _say_slower(why_not())
    read = on_cpu and (dtypes == {torch.float32} or (dtypes == {torch.bfloat16} and kernels() is not None))
    return Decoder(model, samples) if read else partial(next_logits, model)


@cache
def _say_slower(why: str) -> None:
    _log.warning("weights in bfloat16 are read through torch on this CPU, which is slower than float32: %s", why)


def next_logits(model: AnyModel, input_ids_BT: Tensor, cache: AnyCache) -> Tensor:
    """Logits [B, V] after the last of the given tokens, which go into the cache."""
    return model.logits(model(input_ids_BT, cache=cache)[:, -1:])[:, -1]


class _Layer(NamedTuple):
    """What a block calls, in its order; None where it has no such norm."""

    before_attention: Change | None
    project: Callable[[Tensor], None]
    """Queries, keys and values, normed, go into the buffer."""
    kind: LayerType
    o_proj: Change
    after_attention: Change | None
    before_mlp: Change | None
    mlp: Change
    after_mlp: Change | None


class Decoder:
    """A `Transformer` as one token of `samples` sequences goes through it; reads its weights where they lie."""

    @torch.inference_mode()
    def __init__(self, model: Transformer, samples: int) -> None:
        self._model, self._config = model, model.config
        config, heads, kv_heads = model.config, model.config.num_attention_heads, model.config.key_value_heads
        self._window = config.sliding_window
        attention = model.layers[0].self_attn
        assert isinstance(attention, Attention)
        self._scale, self._cap = attention.scale, attention.softcap
        # Queries, keys and values of one token, and all but the values again once they are turned.
        made = torch.empty(samples, heads + 2 * kv_heads, config.head_size, dtype=torch.float32, device="cpu")
        turned = torch.empty_like(made) if config.position == "rotary" else made
        self._values_BKN, self._keys_BKN = made[:, heads + kv_heads :], turned[:, heads : heads + kv_heads]
        # The heads of a group are so many queries of their key head: one token sees all keys, so no mask is needed.
        self._queries_BKGN = turned[:, :heads].view(samples, kv_heads, heads // kv_heads, config.head_size)
        self._halves = _halves(made[:, : heads + kv_heads], turned[:, : heads + kv_heads])
        self._layers = [_layer(block, kind, made) for block, kind in zip(model.layers, model.kinds, strict=True)]
        self._last = (_norm(model.norm), _head(model.mlm_head, samples))
        self._output, self._seen = with_weight(model.output_weight, model.output_bias, samples), None
        half = model.output_weight.dtype == torch.bfloat16
        self._prompts = read_widened(model) if half and not fast_in_bfloat16() else model
        if half and (found := kernels()):
            scale = 1 / math.sqrt(config.head_size) if self._scale is None else self._scale
            self._seen = found.attention(turned[:, :heads], kv_heads, scale, self._cap)
        self._post = config.norm_position == "post"
        self._tables: dict[LayerType, Tables] = {}

    def __call__(self, input_ids_BT: Tensor, cache: AnyCache) -> Tensor:
        """Logits [B, V] after the last of the tokens, which go into the cache; several go through the model."""
        assert isinstance(cache, KVCache)
        if input_ids_BT.shape[1] > 1:
            return self._scores(self._prompts(input_ids_BT, cache=cache)[:, -1].float())
        return self._scores(self._one(input_ids_BT[:, 0], cache))

    @torch.inference_mode()
    def _scores(self, x_BD: Tensor) -> Tensor:
        """Logits [B, V], in fp32 of bfloat16 weights too: the likeliest of many tokens are close to one another."""
        logits_BV, cap = self._output(x_BD), self._model.logit_softcap
        logits_BV = logits_BV.clone() if self._seen else logits_BV
        return logits_BV if cap is None else (logits_BV / cap).tanh() * cap

    @torch.inference_mode()
    def _one(self, ids_B: Tensor, cache: KVCache) -> Tensor:
        position = cache.length
        here, seen = cache.place(), cache.seen()
        if self._config.position == "rotary":
            turns = {kind: _at(tables, position) for kind, tables in self._tables_of(cache.capacity).items()}
        x_BD = self._embed(ids_B, position)
        for layer, (key_place, value_place), (keys, values) in zip(self._layers, here, seen, strict=True):
            layer.project(x_BD if layer.before_attention is None else layer.before_attention(x_BD))
            if self._config.position == "rotary":
                self._turn(turns[layer.kind])
            key_place.copy_(self._keys_BKN)
            value_place.copy_(self._values_BKN)
            if layer.kind == "sliding_attention" and self._window is not None and self._window <= position:
                keys, values = keys[:, :, -self._window :], values[:, :, -self._window :]
            x_BD = self._add(x_BD, layer.o_proj(self._attend(keys, values)), layer.after_attention)
            inner_BD = x_BD if layer.before_mlp is None else layer.before_mlp(x_BD)
            x_BD = self._add(x_BD, layer.mlp(inner_BD), layer.after_mlp)
        cache.advance(1)
        for last in self._last:
            x_BD = x_BD if last is None else last(x_BD)
        return x_BD

    def _embed(self, ids_B: Tensor, position: int) -> Tensor:
        model, config = self._model, self._config
        x_BD = model.embed_tokens.weight.index_select(0, ids_B).float()
        if config.scale_embedding:
            x_BD.mul_(math.sqrt(config.hidden_size))
        if model.embed_types is not None:
            x_BD.add_(model.embed_types.weight[0])
        if model.embed_positions is not None:
            x_BD.add_(model.embed_positions.weight[position + config.position_offset])
        return x_BD if model.embed_norm is None else model.embed_norm(x_BD)

    def _tables_of(self, capacity: int) -> dict[LayerType, Tables]:
        """cos [S, N] and sin [S, N/2] for so many positions at least, by type of layer."""
        config = self._config
        if not self._tables or len(next(iter(self._tables.values()))[0]) < capacity:
            self._tables = {kind: _tables(config, kind, capacity) for kind in set(config.kinds)}
        return self._tables

    def _turn(self, tables: Tables) -> None:
        """Queries and keys turned by their position: `apply_rotary`, all heads at once."""
        cos_N, sin_n = tables
        whole, (first, second), turned, (turned_first, turned_second) = self._halves
        torch.mul(whole, cos_N, out=turned)
        turned_first.addcmul_(second, sin_n, value=-1)
        turned_second.addcmul_(first, sin_n)

    def _attend(self, keys_BKSN: Tensor, values_BKSN: Tensor) -> Tensor:
        """[B, H * N]"""
        if self._seen is not None:
            return self._seen(keys_BKSN, values_BKSN)
        if self._cap is None:
            out = F.scaled_dot_product_attention(self._queries_BKGN, keys_BKSN, values_BKSN, scale=self._scale)
        else:
            scale = 1 / math.sqrt(self._config.head_size) if self._scale is None else self._scale
            scores_BKGS = (self._queries_BKGN * scale) @ keys_BKSN.transpose(-1, -2)
            out = (scores_BKGS.div_(self._cap).tanh_() * self._cap).softmax(-1) @ values_BKSN
        return out.flatten(1)

    def _add(self, x_BD: Tensor, new_BD: Tensor, norm: Change | None) -> Tensor:
        if norm is None:
            return x_BD.add_(new_BD)
        return norm(x_BD + new_BD) if self._post else x_BD.add_(norm(new_BD))


def _layer(block: nn.Module, kind: LayerType, made: Tensor) -> _Layer:
    assert isinstance(block, Block)
    pre = block.norm_position == "pre"
    return _Layer(
        _norm(block.input_layernorm),
        _projection(block.self_attn, made),
        kind,
        product(block.self_attn.o_proj, len(made)),
        None if pre else _norm(block.post_attention_layernorm),
        _norm(block.post_attention_layernorm if pre else block.pre_feedforward_layernorm),
        _mlp(block.mlp, len(made)),
        _norm(block.post_feedforward_layernorm),
    )


def _norm(norm: RMSNorm | LayerNorm | None) -> Change | None:
    if norm is None:
        return None
    shape, weight, eps = norm.weight.shape, norm.weight.float(), norm.eps
    if isinstance(norm, RMSNorm):
        scale = weight + 1 if norm.plus_one else weight
        return lambda x: torch.rms_norm(x, shape, scale, eps)
    bias = None if norm.bias is None else norm.bias.float()
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps, False)


def _head(head: MLMHead | None, rows: int) -> Change | None:
    if head is None:
        return None
    dense, norm, name = product(head.dense, rows), head.norm, head.activation
    return lambda x: norm(activate(dense(x), name))


def _projection(attention: Attention, made_BXN: Tensor) -> Callable[[Tensor], None]:
    """A function that writes queries, keys and values of x [B, D], normed, into the buffer."""
    modules = (attention.q_proj, attention.k_proj, attention.v_proj)
    widths = [module.out_features for module in modules]
    places = torch.split(made_BXN.flatten(1), widths, 1)
    steps = [into(modules, places)]
    for norm, place in zip((attention.q_norm, attention.k_norm), places[:2], strict=True):
        if norm is not None:
            width = place.shape[1] if attention.norm_whole else attention.head_dim
            steps.append(partial(_normed_in_place, norm, torch.unflatten(place, 1, (-1, width))))

    def project(x_BD: Tensor) -> None:
        for step in steps:
            step(x_BD)

    return project


def _normed_in_place(norm: RMSNorm, place: Tensor, _: Tensor) -> None:
    place.copy_(norm(place))


def _mlp(mlp: MLP, rows: int) -> Change:
    down, name = product(mlp.down_proj, rows), mlp.activation
    if mlp.gate_proj is None:
        up = product(mlp.up_proj, rows)
        return lambda x: down(activate(up(x), name))
    both = together((mlp.gate_proj, mlp.up_proj), rows)

    def change(x: Tensor) -> Tensor:
        gate, up = both(x)
        return down(activate(gate, name).mul_(up))

    return change


def _tables(config: ModelConfig, kind: LayerType, capacity: int) -> Tables:
    """cos, for both halves of a head, and sin of all positions."""
    theta, scaling = config.rope_of(kind)
    cos, sin = rotary_tables(torch.arange(capacity)[None], config.head_size, theta, scaling)
    return torch.cat((cos, cos), -1)[0, 0], sin[0, 0]


def _at(tables: Tables, position: int) -> Tables:
    return tables[0][position], tables[1][position]


def _halves(made: Tensor, turned: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
    return made, made.chunk(2, -1), turned, turned.chunk(2, -1)
