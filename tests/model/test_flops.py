"""Model FLOPs by what trains, against torch's own count of the products that are made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig, flops_per_token
from tilth.model.flops import trained_flops_per_token
from tilth.model.freezing import freeze
from tilth.model.transformer import Transformer, build

ROWS, CONTEXT = 3, 24
SHAPES = {
    "llama": {"preset": "llama-tiny", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4},
    "gpt2": {"preset": "gpt2", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4},
}
ALL = ["embed_tokens", "embed_positions"]


def small(name: str) -> Transformer:
    config = ModelConfig.model_validate({**SHAPES[name], "context_length": CONTEXT, "vocab_size": 300})
    return build(config, 1).train()


def in_place(_: object, left: list[int], right: list[int], **__: object) -> int:
    """Of a product that is added to what is there, which torch's counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def products(model: Transformer) -> int:
    """FLOPs of all products of a step, of attention too, as torch counts them."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter,
    ):
        scores: Tensor = model.logits(model(torch.zeros(ROWS, CONTEXT, dtype=torch.int64)))
        scores.sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def vectors(model: Transformer) -> float:
    """What the formula counts for norms and biases, and torch, which counts products, does not; at the most."""
    return sum(6.0 * p.numel() for p in model.parameters() if p.dim() == 1)


def assert_counted(model: Transformer) -> None:
    ours, theirs = trained_flops_per_token(model), products(model) / (ROWS * CONTEXT)
    assert theirs <= ours <= theirs + vectors(model)


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_that_trains_whole_is_as_before(name: str) -> None:
    model = small(name)
    assert trained_flops_per_token(model) == flops_per_token(model.config)
    assert_counted(model)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("changes", [{}, {"quantize": "nf4"}, {"dropout": 0.1}, {"modules_to_save": ["embed_tokens"]}])
def test_frozen_matrices_beside_an_adapter_have_no_gradient(name: str, changes: dict[str, object]) -> None:
    model = small(name)
    whole = trained_flops_per_token(model)
    apply_adapter(model, AdapterConfig.model_validate({"rank": 4, **changes}), 1)
    assert_counted(model)
    assert trained_flops_per_token(model) < 0.85 * whole


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "frozen",
    [ALL[:1], ["layers.0.*"], [*ALL[:1], "layers.0.*", "layers.1.self_attn.*"], ["layers.*.mlp"], ["layers.*", "norm"]],
    ids=str,
)
def test_what_stands_before_all_that_trains_is_not_gone_back_through(name: str, frozen: list[str]) -> None:
    model = small(name)
    positions = ALL[1:] if model.embed_positions is not None and ALL[0] in frozen else []
    freeze(model, [*frozen, *positions])
    assert_counted(model)
    assert trained_flops_per_token(model) < flops_per_token(model.config)
