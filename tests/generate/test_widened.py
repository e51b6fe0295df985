"""Models in bfloat16 beside the same weights in fp32: prompts, the first token, adapters and many samples."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.generate.helpers import random_model, rounded, rounding
from tests.generate.test_decode import DECODERS, at_once, one_by_one
from tests.model.adapter_helpers import beside
from tests.model.families import LENGTH, make, save, some_ids
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.generate import decode, widened
from tilth.generate.config import SamplingConfig
from tilth.generate.decode import Decoder, reader_of
from tilth.generate.engine import generate_ids
from tilth.model.adapter_config import AdapterConfig
from tilth.model.transformer import Transformer


def both(model: Transformer) -> tuple[Transformer, Transformer]:
    """In bfloat16, and the same numbers in fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    exact = copy.deepcopy(model)
    for parameter in exact.parameters():
        parameter.data = parameter.data.float()
    return model, exact


def lost(given: Tensor, exact: Tensor) -> float:
    """The error beside the spread of what is wanted."""
    return float((given.float() - exact).square().mean().sqrt() / exact.std())


def assert_better_than_by_torch(model: Transformer, rows: int = 2) -> None:
    half, exact = both(model)
    ids, read = some_ids(rows), reader_of(half, rows)
    assert isinstance(read, Decoder)
    wanted = at_once(exact, ids, 3)
    ours = lost(one_by_one(read, half, ids, 3), wanted)
    assert 1e-6 < ours < lost(at_once(half, ids, 3), wanted) < 0.1


@pytest.fixture
def slow_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "fast_in_bfloat16", lambda: False)


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_of_every_family_is_read_in_fp32(name: str, tmp_path: Path, slow_in_bfloat16: None) -> None:
    half, exact = both(load_checkpoint(save(make(name), tmp_path)).model.eval())
    ids, cache = some_ids(2), half.new_cache(2, LENGTH)
    before = {key: value.clone() for key, value in half.state_dict().items()}
    with torch.no_grad():
        read = reader_of(half, 2)
        first = read(ids[:, :5], cache)
        rest = read(ids[:, 5:], cache)  # a conversation goes on
        wanted = exact.logits(exact(ids[:, :5]))[:, -1], at_once(exact, ids, LENGTH)[:, -1]
        by_torch = half.logits(half(ids))[:, -1]
    assert cache.keys.dtype == torch.bfloat16 and rest.dtype == torch.float32
    assert lost(first, wanted[0]) < 0.01 and lost(rest, wanted[1]) < 0.7 * lost(by_torch, wanted[1])
    assert all(torch.equal(value, before[key]) for key, value in half.state_dict().items())


@pytest.mark.parametrize(
    ("features", "vendor", "fast"),
    [
        (["avx2"], "AuthenticAMD", False),
        (["avx512_bf16"], "AuthenticAMD", True),
        (["avx512_bf16"], "GenuineIntel", False),
        (["avx512_bf16", "amx_bf16"], "GenuineIntel", True),
        ([], "", False),
    ],
)
def test_which_processors_are_fast(
    features: list[str], vendor: str, fast: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(widened, "processor_features", lambda: features)
    monkeypatch.setattr(widened, "processor_vendor", lambda: vendor)
    request.addfinalizer(widened.fast_in_bfloat16.cache_clear)
    widened.fast_in_bfloat16.cache_clear()
    assert widened.fast_in_bfloat16() == fast


@pytest.mark.parametrize("fast", [False, True])
def test_the_first_token_is_drawn_from_fp32(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "fast_in_bfloat16", lambda: fast)
    model, _ = both(random_model(tie_word_embeddings=False))
    assert model.lm_head is not None
    model.lm_head.weight.data[:, 0] += 100  # far from zero, where bfloat16 has few numbers
    with torch.no_grad():
        read = reader_of(model, 1)
        assert isinstance(read, Decoder)
        ids = some_ids(1, 6)
        hidden = read._prompts(ids, cache=model.new_cache(1, 8))[:, -1].float()
        given = read(ids, model.new_cache(1, 8))
        hidden = rounded(hidden) if rounding() else hidden
        torch.testing.assert_close(given, hidden @ model.output_weight.float().t(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"rank": 4},
        {"rank": 4, "dora": True},
        {"rank": 4, "targets": ["*.q_proj", "*.up_proj"]},
        {"rank": 4, "quantize": "nf4", "targets": ["*.v_proj", "*.down_proj"]},
    ],
)
def test_an_adapter(config: dict[str, Any], slow_in_bfloat16: None) -> None:
    model, adapter = random_model(LENGTH, 97, 3.0, bias=True), AdapterConfig(**config)
    assert_better_than_by_torch(beside(model, adapter))


def test_many_samples_and_a_head() -> None:
    assert_better_than_by_torch(random_model(LENGTH, 97, 3.0), rows=40)
    assert_better_than_by_torch(random_model(LENGTH, 97, 3.0, mlm_head=True, bias=True, norm="layernorm"))


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_default_of_torch(dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    model = random_model(16).to(dtype)

    def written() -> list[list[int | None]]:
        return list(generate_ids(model, [1, 2, 3], SamplingConfig(), samples=2, max_new_tokens=20))

    wanted = written()
    request.getfixturevalue("double_by_default")
    assert written() == wanted
