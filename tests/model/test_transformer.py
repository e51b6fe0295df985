"""The model against written-out formulas, its own arithmetic, and itself with a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.model.attention import attend, document_mask, reference_attention
from tilth.model.config import PRESETS, ModelConfig, flops_per_token, parameter_count
from tilth.model.kv_cache import KVCache
from tilth.model.transformer import Transformer, build

VARIANTS: list[dict[str, Any]] = [
    {"preset": "gpt2"},
    {"preset": "llama", "num_key_value_heads": 2},
    {"activation": "relu2", "qk_norm": True, "norm": "layernorm", "position": "learned"},
    {"activation": "gelu", "bias": True, "tie_word_embeddings": False},
]


def small(**changes: Any) -> ModelConfig:
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "context_length": 16,
        "vocab_size": 41,
    }
    return ModelConfig(**{**shape, **changes})


def ids(rows: int, length: int, vocab: int = 41) -> torch.Tensor:
    return torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (1, 9), (4, 9)])
def test_kernel_equals_the_written_formula(kv_heads: int, queries: int, keys: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 4, queries, 8, generator=generator, dtype=torch.float64)
    k, v = (torch.randn(2, kv_heads, keys, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(attend(q, k, v, None), reference_attention(q, k, v, None))


def test_document_mask_lets_no_query_look_out_of_its_document() -> None:
    mask = document_mask(torch.tensor([[0, 0, 1, 1, 1]]))[0, 0]
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert mask.int().tolist() == expected


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_packed_row_equals_its_documents_alone(changes: dict[str, Any]) -> None:
    model = build(small(**changes), 1).double().eval()
    tokens = ids(1, 12)
    documents = torch.tensor([[0] * 5 + [1] * 7])
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = model.logits(model(tokens, positions, document_mask(documents)))
    alone = torch.cat([model.logits(model(tokens[:, :5])), model.logits(model(tokens[:, 5:]))], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("changes", VARIANTS)
def test_cached_logits_equal_uncached(changes: dict[str, Any]) -> None:
    model = build(small(**changes), 1).eval()
    tokens = ids(3, 16)
    cache = KVCache(model.config, 3, 16, torch.device("cpu"))
    pieces = [model(tokens[:, start:stop], cache=cache) for start, stop in ((0, 5), (5, 6), (6, 11), (11, 16))]
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(torch.cat(pieces, 1)), model.logits(model(tokens)), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("changes", VARIANTS)
def test_nothing_looks_ahead(changes: dict[str, Any]) -> None:
    model = build(small(**changes), 1).eval()
    before, after = ids(1, 10), ids(1, 10)
    after[0, 6] = (after[0, 6] + 1) % 41
    first, second = model(before), model(after)
    torch.testing.assert_close(first[:, :6], second[:, :6])
    assert not torch.allclose(first[:, 6:], second[:, 6:])


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_count_is_exact(preset: str) -> None:
    config = ModelConfig(preset=preset, vocab_size=1000)
    with torch.device("meta"):
        model = Transformer(config)
    assert parameter_count(config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS)
def test_parameter_count_of_variants_is_exact(changes: dict[str, Any]) -> None:
    assert parameter_count(small(**changes)) == sum(p.numel() for p in build(small(**changes), 0).parameters())


def test_sizes_known_from_elsewhere() -> None:
    assert parameter_count(ModelConfig(preset="gpt2", vocab_size=50257)) == 124_439_808  # as transformers counts it
    assert parameter_count(ModelConfig(preset="gpt2-xl", vocab_size=50257)) == 1_557_611_200
    # nanoGPT prints 10.65M for its Shakespeare model: without positions, 65 characters, no biases.
    shakespeare = small(
        preset="gpt2", num_hidden_layers=6, hidden_size=384, num_attention_heads=6, vocab_size=65, bias=False
    )
    assert parameter_count(shakespeare) - 16 * 384 == 10_646_784
    # 6 N + 12 L d T by hand
    assert flops_per_token(shakespeare) == 6 * 10_646_784 + 12 * 6 * 384 * 16


def test_initialisation_is_gpt2s_and_follows_from_the_seed() -> None:
    config = small(preset="gpt2", hidden_size=256, num_hidden_layers=8)
    state = torch.random.get_rng_state()
    model, again, other = build(config, 5), build(config, 5), build(config, 6)
    assert torch.equal(torch.random.get_rng_state(), state), "building draws from the global generator"
    weights = model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())
    assert not torch.equal(model.embed_tokens.weight, other.embed_tokens.weight)
    assert weights["layers.0.self_attn.q_proj.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert weights["layers.3.mlp.down_proj.weight"].std() == pytest.approx(0.02 / 4, rel=0.02)  # sqrt(2 * 8) = 4
    assert weights["layers.3.mlp.down_proj.bias"].abs().max() == 0
    assert weights["norm.weight"].eq(1).all()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"hidden_size": 30}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"hidden_size": 12}, "rotary positions need an even head size"),
        ({"preset": "gpt-2"}, "did you mean 'gpt2'?"),
        ({"dropout": 1.0}, "dropout: 1.0 (a number) is not valid"),
        ({"n_layer": 3}, "n_layer: unknown key"),
    ],
)
def test_impossible_shapes_are_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(ModelConfig, data)
    assert said in str(caught.value)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("documents", [None, [[0, 0, 0, 1, 1, 2, 2, 2, 2], [0] * 9]])
def test_short_bf16_products_equal_the_formula_within_bf16(kv_heads: int, documents: list[list[int]] | None) -> None:
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 4, 9, 8, generator=generator)
    k, v = (torch.randn(2, kv_heads, 9, 8, generator=generator) for _ in range(2))
    mask = None if documents is None else document_mask(torch.tensor(documents))
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), reference_attention(q, k, v, mask), atol=0.04, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_building_neither_asks_nor_changes_the_type_that_all_threads_share(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = build(small(bias=True, norm="layernorm"), 1).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "set_default_dtype", None)
            made = build(small(bias=True, norm="layernorm"), 1, dtype=dtype)
            empty = build(small(), None, "meta", dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in [*made.parameters(), *empty.parameters()]} == {dtype}
    assert all(torch.equal(tensor, wanted[name].to(dtype)) for name, tensor in made.state_dict().items())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in made.parameters())
