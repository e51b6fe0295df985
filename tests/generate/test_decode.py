"""One token at a time beside the model itself, and transformers: the same numbers for every shape of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from torch import Tensor

from tests.generate.helpers import random_model
from tests.model.adapter_helpers import beside
from tests.model.families import LENGTH, SHAPES, make, save, some_ids
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.generate.decode import HONOURED, NOT_OF_COMPUTATION, Decoder, next_logits, reader_of
from tilth.model.adapter_config import AdapterConfig
from tilth.model.config import ModelConfig
from tilth.model.families import read_hf_config
from tilth.model.transformer import Transformer

DECODERS = [name for name in SHAPES if "bert" not in name]
TOGETHER: list[dict[str, Any]] = [
    {"norm_position": "post", "norm": "layernorm", "bias": True, "embedding_norm": True, "activation": "relu2"},
    {"position": "learned", "position_offset": 2, "mlm_head": True, "type_vocab_size": 2, "activation": "gelu"},
    {"sliding_window": 1},
    {"sliding_window": LENGTH, "qk_norm": True, "qk_norm_over": "width"},
]
"""What no family has together."""


@torch.no_grad()
def one_by_one(read: Callable[[Tensor, Any], Tensor], model: Transformer, ids: Tensor, first: int) -> Tensor:
    """Logits after each token from number `first` on, [B, T - first + 1, V]."""
    cache = model.new_cache(len(ids), ids.shape[1])
    logits = [read(ids[:, :first], cache)]
    logits += [read(ids[:, place : place + 1], cache) for place in range(first, ids.shape[1])]
    return torch.stack(logits, 1)


@torch.no_grad()
def at_once(model: Transformer, ids: Tensor, first: int) -> Tensor:
    return model.logits(model(ids)[:, first - 1 :])


def assert_same(model: Transformer, rows: int = 2, first: int = 3) -> None:
    ids = some_ids(rows)
    whole, read = at_once(model, ids, first), reader_of(model, rows)
    assert isinstance(read, Decoder) and whole.std() > 0.1, "logits near zero would agree by themselves"
    torch.testing.assert_close(one_by_one(read, model, ids, first), whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("name", DECODERS)
def test_every_family_as_the_model_and_as_transformers(name: str, tmp_path: Path) -> None:
    theirs = make(name)
    ours = load_checkpoint(save(theirs, tmp_path)).model.eval()
    assert_same(ours)
    ids = some_ids()
    with torch.no_grad():
        expected = theirs(ids).logits[:, 2:]
    torch.testing.assert_close(one_by_one(reader_of(ours, 2), ours, ids, 3), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", TOGETHER)
@pytest.mark.parametrize("first", [1, LENGTH - 1])
def test_what_no_family_has_together(changes: dict[str, Any], first: int) -> None:
    assert_same(random_model(LENGTH, 97, 3.0, **changes), rows=3, first=first)


def test_every_key_of_a_model_is_honoured_and_compared(tmp_path: Path) -> None:
    fields = ModelConfig.model_fields
    assert fields.keys() == HONOURED | NOT_OF_COMPUTATION, "say in decode.py what becomes of a new key"
    assert not HONOURED & NOT_OF_COMPUTATION
    configs = [random_model(LENGTH, 97, **changes).config for changes in TOGETHER]
    for name in DECODERS:
        kind, _, values = SHAPES[name]
        getattr(transformers, f"{kind}Config")(**values).save_pretrained(tmp_path)
        configs.append(read_hf_config(tmp_path).config)
    untried = {key for key in HONOURED if all(getattr(config, key) == fields[key].default for config in configs)}
    assert untried == {"is_causal"}, "the shapes above compare nothing of a key that all leave as it is"


def test_a_room_that_grows(first: int = 4) -> None:
    model, ids = random_model(LENGTH, 97), some_ids(1)
    read, cache = reader_of(model, 1), model.new_cache(1, 8)
    with torch.no_grad():
        pieces = [read(ids[:, :first], cache)]
        for place in range(first, LENGTH):
            if place == 8:
                cache.grow(LENGTH)
            pieces.append(read(ids[:, place : place + 1], cache))
    torch.testing.assert_close(torch.stack(pieces, 1), at_once(model, ids, first), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_with_an_adapter_beside_its_layers(quantize: Literal["nf4"] | None) -> None:
    model, config = random_model(LENGTH, 97, 3.0), AdapterConfig(rank=4, quantize=quantize)
    plain = at_once(model, some_ids(), 3)
    beside(model, config)
    assert_same(model)
    assert (at_once(model, some_ids(), 3) - plain).abs().max() > 0.1


def test_weights_are_read_where_they_lie() -> None:
    model, ids = random_model(LENGTH, 97), some_ids()
    read = reader_of(model, 2)
    one_by_one(read, model, ids, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    torch.testing.assert_close(one_by_one(read, model, ids, 3), at_once(model, ids, 3), atol=1e-4, rtol=1e-4)


def test_what_it_cannot_do_exactly_the_model_does() -> None:
    assert isinstance(reader_of(random_model(), 1), Decoder)
    others = (random_model().train(), random_model().double(), random_model().half(), random_model(is_causal=False))
    for model in others:
        assert not isinstance(reader_of(model, 1), Decoder)
    with torch.autocast("cpu", torch.bfloat16):
        assert not isinstance(reader_of(random_model(), 1), Decoder)


def test_a_full_cache_is_refused() -> None:
    model, ids = random_model(), some_ids(1, 3)
    cache = model.new_cache(1, 2)
    read = reader_of(model, 1)
    read(ids[:, :2], cache)
    with pytest.raises(AssertionError, match="does not fit a cache of 2"):
        read(ids[:, 2:], cache)
    assert next_logits(model, ids[:, :2], model.new_cache(1, 2)).shape == (1, 257)
