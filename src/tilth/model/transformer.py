"""The one readable model: embedding, blocks of attention and MLP, norm, output.

    build(config, seed, device)       a model with GPT-2's initialisation, drawn from (seed, "init") alone
    Transformer.forward(...)          hidden states [B, T, D]
    Transformer.logits(hidden)        scores over the vocabulary [B, T, V]

Nothing here knows of loss, precision, devices or parallelism: those wrap the model from outside.
Shapes in names: B batch, T time, D hidden_size, V vocab_size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.random import derive_seed
from tilth.model.attention import Attention, Rotary, window_mask
from tilth.model.config import LayerType, ModelConfig
from tilth.model.dropout import Dropout, name_sites
from tilth.model.kv_cache import KVCache
from tilth.model.layers import MLP, Embedding, Linear, MLMHead, make_norm, rotary_tables


class Block(nn.Module):
    """Attention and MLP, each added to what came in, with norms where `norm_position` says.

    Norms are called as in the Hugging Face family that has them there, so `post_attention_layernorm` stands before the
    MLP in GPT-2 and Llama, and behind attention elsewhere.
    """

    def __init__(self, config: ModelConfig, kind: LayerType) -> None:
        super().__init__()
        place = config.norm_position
        self.norm_position = place
        self.input_layernorm = make_norm(config) if place in ("pre", "sandwich") else None
        self.self_attn = Attention(config, kind)
        self.post_attention_layernorm = make_norm(config)
        self.pre_feedforward_layernorm = make_norm(config) if place == "sandwich" else None
        self.mlp = MLP(config)
        self.post_feedforward_layernorm = None if place == "pre" else make_norm(config)

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        behind: nn.Module | None = None if self.norm_position == "pre" else self.post_attention_layernorm
        before_mlp = self.post_attention_layernorm if self.norm_position == "pre" else self.pre_feedforward_layernorm
        new_BTD = self.self_attn(_normed(self.input_layernorm, x_BTD), rotary, mask, cache, layer)
        x_BTD = self._add(x_BTD, new_BTD, behind)
        return self._add(x_BTD, self.mlp(_normed(before_mlp, x_BTD)), self.post_feedforward_layernorm)

    def _add(self, x_BTD: Tensor, new_BTD: Tensor, norm: nn.Module | None) -> Tensor:
        return _normed(norm, x_BTD + new_BTD) if self.norm_position == "post" else x_BTD + _normed(norm, new_BTD)


def _normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)


class Transformer(nn.Module):
    """A causal or masked language model after `ModelConfig`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.kinds = config.kinds
        hidden, learned = config.hidden_size, config.position == "learned"
        self.embed_tokens = Embedding(config.vocabulary, hidden)
        self.embed_positions = Embedding(config.positions + config.position_offset, hidden) if learned else None
        self.embed_types = Embedding(config.type_vocab_size, hidden) if config.type_vocab_size else None
        self.embed_norm = make_norm(config) if config.embedding_norm else None
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config, kind) for kind in self.kinds)
        self.norm = None if config.norm_position == "post" else make_norm(config)
        self.mlm_head = MLMHead(config) if config.mlm_head else None
        self.lm_head = None if config.tie_word_embeddings else Linear(hidden, config.vocabulary, bias=False)
        self.output_bias = nn.Parameter(torch.empty(config.vocabulary)) if config.mlm_head else None
        name_sites(self)

    def forward(
        self,
        input_ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        token_types_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states that the output matrix is multiplied with [B, T, D].

        Args:
            input_ids_BT: int64 token ids.
            positions_BT: place of each token in its document; left out: 0..T-1, after what the cache holds.
            mask: [B, 1, T, S] boolean, true where a query may look; left out: causal, or everywhere for a model that
                is not. Sliding windows come on top.
            cache: keys and values of earlier tokens; the new ones are added.
            token_types_BT: the segment of each token, where the model has such; left out: all 0.
        """
        past = cache.length if cache is not None else 0
        if positions_BT is None:
            positions_BT = torch.arange(past, past + input_ids_BT.shape[1], device=input_ids_BT.device)[None]
        x_BTD = self._embed(input_ids_BT, positions_BT, token_types_BT)
        views = {kind: self._view(kind, positions_BT, mask, past, input_ids_BT.shape[1]) for kind in set(self.kinds)}
        for index, (kind, layer) in enumerate(zip(self.kinds, self.layers, strict=True)):
            rotary, seen = views[kind]
            x_BTD = layer(x_BTD, rotary, seen, cache, index)
        if cache is not None:
            cache.advance(input_ids_BT.shape[1])
        return _normed(self.mlm_head, _normed(self.norm, x_BTD))

    def _embed(self, input_ids_BT: Tensor, positions_BT: Tensor, token_types_BT: Tensor | None) -> Tensor:
        x_BTD: Tensor = self.embed_tokens(input_ids_BT)
        if self.config.scale_embedding:
            x_BTD = x_BTD * math.sqrt(self.config.hidden_size)
        if self.embed_types is not None:
            types_BT = torch.zeros_like(input_ids_BT) if token_types_BT is None else token_types_BT
            x_BTD = x_BTD + self.embed_types(types_BT)
        if self.embed_positions is not None:
            x_BTD = x_BTD + self.embed_positions(positions_BT + self.config.position_offset)
        out: Tensor = self.dropout(_normed(self.embed_norm, x_BTD))
        return out

    def _view(
        self, kind: LayerType, positions_BT: Tensor, mask: Tensor | None, past: int, new: int
    ) -> tuple[Rotary | None, Tensor | None]:
        """What layers of one type share: tables of rotary positions, and which keys their queries see."""
        config, rotary, window = self.config, None, self.config.sliding_window
        if config.position == "rotary":
            theta, scaling = config.rope_of(kind)
            rotary = rotary_tables(positions_BT, config.head_size, theta, scaling)
        if kind == "sliding_attention" and window is not None:
            mask = window_mask(mask, new, past + new, window, positions_BT.device)
        return rotary, mask

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the tokens [B, T, V]."""
        bias = None if self.output_bias is None else self.output_bias.to(hidden_BTD.dtype)
        logits_BTV = F.linear(hidden_BTD, self.output_weight, bias)
        cap = self.logit_softcap
        return logits_BTV if cap is None else (logits_BTV / cap).tanh() * cap

    @property
    def input_weight(self) -> Tensor:
        """The embeddings of the tokens [V, D]."""
        return self.embed_tokens.weight

    @property
    def output_weight(self) -> Tensor:
        """The output matrix [V, D]: the token embedding itself when tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def logit_softcap(self) -> float | None:
        """c, where logits become c tanh(logit / c)."""
        return self.config.final_logit_softcapping

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` sequences of `capacity` tokens, beside the weights."""
        weight = self.output_weight
        half = weight.dtype in (torch.bfloat16, torch.float16)
        return KVCache(self.config, batch, capacity, weight.device, weight.dtype if half else torch.float32)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """GPT-2's initialisation: N(0, initializer_range), the two projections into the residual stream divided by
        sqrt(2 layers).

        Source: Radford et al. 2019, section 2.3. Draws only from its own generator.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "init"))
        std, residual = self.config.initializer_range, math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                zero = name.endswith("bias") or (self.config.norm_plus_one and name.endswith("norm.weight"))
                parameter.fill_(0.0 if zero else 1.0)
                continue
            scale = std / residual if name.endswith(("o_proj.weight", "down_proj.weight")) else std
            # Drawn in fp32 on the CPU, so that every device and precision starts from the same weights.
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * scale)


def build(
    config: ModelConfig,
    seed: int | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """A model on `device`, its weights in `dtype`; without a seed they are unset, to be loaded.

    torch's default type is neither asked nor changed: it belongs to all threads, and others may be computing.
    """
    with torch.device("meta"):  # of this thread alone
        model = Transformer(config)
    for module in model.modules():  # not to_empty: on the meta device it imports torch's compiler, which takes a second
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype, device=device)))
    if seed is not None:
        model.initialise(seed)
    return model
