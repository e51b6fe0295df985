"""The one readable decoder: embedding, blocks of attention and MLP, norm, output.

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
from tilth.model.attention import Attention, Rotary
from tilth.model.config import ModelConfig
from tilth.model.kv_cache import KVCache
from tilth.model.layers import MLP, make_norm, rotary_tables


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the pre-norm residual block of GPT-2 and Llama."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = MLP(config)

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotary, mask, cache, layer)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


class Transformer(nn.Module):
    """A causal language model after `ModelConfig`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.hidden_size)
        learned = config.position == "learned"
        self.embed_positions = nn.Embedding(config.context_length, config.hidden_size) if learned else None
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocabulary, bias=False)

    def forward(
        self,
        input_ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states after the last norm [B, T, D].

        Args:
            input_ids_BT: int64 token ids.
            positions_BT: place of each token in its document; left out: 0..T-1, after what the cache holds.
            mask: [B, 1, T, S] boolean, true where a query may look; left out: causal.
            cache: keys and values of earlier tokens; the new ones are added.
        """
        if positions_BT is None:
            start = cache.length if cache is not None else 0
            positions_BT = torch.arange(start, start + input_ids_BT.shape[1], device=input_ids_BT.device)[None]
        x_BTD = self.embed_tokens(input_ids_BT)
        rotary = None
        if self.embed_positions is not None:
            x_BTD = x_BTD + self.embed_positions(positions_BT)
        else:
            rotary = rotary_tables(positions_BT, self.config.head_dim, self.config.rope_theta)
        x_BTD = self.dropout(x_BTD)
        for index, layer in enumerate(self.layers):
            x_BTD = layer(x_BTD, rotary, mask, cache, index)
        if cache is not None:
            cache.advance(input_ids_BT.shape[1])
        out: Tensor = self.norm(x_BTD)
        return out

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token [B, T, V]."""
        return F.linear(hidden_BTD, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """The output matrix [V, D]: the token embedding itself when tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

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
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            scale = std / residual if name.endswith(("o_proj.weight", "down_proj.weight")) else std
            # Drawn in fp32 on the CPU, so that every device and precision starts from the same weights.
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def build(config: ModelConfig, seed: int | None, device: torch.device | str = "cpu") -> Transformer:
    """A model on `device`; without a seed its weights are unset, to be loaded.

    It is made on the meta device first: nothing is allocated twice and torch's own initialisers draw nothing.
    """
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device=device)
    if seed is not None:
        model.initialise(seed)
    return model
