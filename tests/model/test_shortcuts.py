"""Shortcuts from the beginning of the model, against the formulas written out; and projections that start from zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tilth.model.attention import reference_attention
from tilth.model.config import ModelConfig
from tilth.model.freezing import freeze
from tilth.model.layers import apply_rotary, rotary_tables
from tilth.model.transformer import Block, Transformer, build


def model_of(**changes: Any) -> Transformer:
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "context_length": 8, "vocab_size": 20}
    return build(ModelConfig.model_validate({**shape, **changes}), 3).double()


def ids() -> Tensor:
    return torch.arange(16).view(2, 8) % 20


def written_out(model: Transformer, value_residual: bool, x0_residual: bool) -> Tensor:
    """Zhou et al. 2024: V'_n = a V_n + b V_1 in all layers but the first; and x = a x + b x0 before every layer."""
    x0 = x = model.embed_tokens(ids())
    rotary, first = rotary_tables(torch.arange(8)[None], 8, 10000.0), None

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (2, 8)).transpose(1, 2)

    for block in model.layers:
        assert isinstance(block, Block) and block.input_layernorm is not None
        attention = block.self_attn
        if x0_residual:
            assert block.x0_mix is not None
            x = block.x0_mix.lambdas[0] * x + block.x0_mix.lambdas[1] * x0
        normed = block.input_layernorm(x)
        v = attention.v_proj(normed)
        first = v if first is None else first
        if value_residual and first is not v:
            assert attention.v_mix is not None
            v = attention.v_mix.lambdas[0] * v + attention.v_mix.lambdas[1] * first
        q, k = (apply_rotary(heads(part(normed)), rotary) for part in (attention.q_proj, attention.k_proj))
        mixed = reference_attention(q, k, heads(v), None)
        x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.post_attention_layernorm(x))
    assert model.norm is not None
    return model.logits(model.norm(x))


@pytest.mark.parametrize(("value_residual", "x0_residual"), [(True, False), (False, True), (True, True)])
def test_shortcuts_are_the_written_formula(value_residual: bool, x0_residual: bool) -> None:
    model = model_of(value_residual=value_residual, x0_residual=x0_residual, initializer_range=0.3)
    mixes = [parameter for name, parameter in model.named_parameters() if name.endswith("lambdas")]
    assert len(mixes) == 2 * value_residual + 3 * x0_residual
    with torch.no_grad():
        before = model.logits(model(ids()))
        for number, lambdas in enumerate(mixes):
            lambdas.copy_(torch.tensor([0.9 - 0.1 * number, 0.3 + 0.2 * number]))
        after = model.logits(model(ids()))
        torch.testing.assert_close(after, written_out(model, value_residual, x0_residual))
    assert (before - after).abs().max() > 1e-3, "the shares matter"


def test_every_share_learns_and_can_be_frozen() -> None:
    model = model_of(value_residual=True, x0_residual=True, initializer_range=0.3)
    assert freeze(model, ["x0_mix"]) == 6
    model.logits(model(ids())).square().sum().backward()
    shares = {name: p.grad for name, p in model.named_parameters() if name.endswith("lambdas")}
    assert [name for name, gradient in shares.items() if gradient is not None] == [
        "layers.1.self_attn.v_mix.lambdas",
        "layers.2.self_attn.v_mix.lambdas",
    ]
    assert all(bool(gradient.ne(0).all()) for gradient in shares.values() if gradient is not None)


@pytest.mark.parametrize("shortcuts", [False, True])
def test_layers_that_start_from_zero_change_nothing(shortcuts: bool) -> None:
    options = {"value_residual": shortcuts, "x0_residual": shortcuts, "tie_word_embeddings": False}
    model, other = model_of(zero_init_projections=True, **options), model_of(**options)
    zero = {name for name, parameter in model.named_parameters() if not parameter.any()}
    into = {f"layers.{n}.{part}.weight" for n in range(3) for part in ("self_attn.o_proj", "mlp.down_proj")}
    assert zero == into | {"lm_head.weight"}
    same = [name for name, p in other.named_parameters() if torch.equal(p, model.get_parameter(name))]
    assert {*same} == {name for name, _ in model.named_parameters()} - zero, "the others are drawn as without it"
    assert model.norm is not None
    torch.testing.assert_close(model(ids()), model.norm(model.embed_tokens(ids())))
