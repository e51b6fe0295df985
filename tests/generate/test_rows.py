"""Several samples: their prompt is read once, and each goes on as if it were alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import transformers

from tests.generate.helpers import random_model
from tests.model.families import LENGTH, VOCAB, from_config, save
from tests.model.test_wrapped_caches import CONFIGS
from tilth.generate.config import SamplingConfig
from tilth.generate.engine import generate_ids
from tilth.generate.sampling import Sampler
from tilth.generate.text import TextOptions, generate_texts
from tilth.model.kv_cache import KVCache
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel, CacheManner, WrappedCache, load_wrapped
from tilth.tokenizer import TokenizerConfig, train_tokenizer

STOPS = frozenset(range(12))
SAMPLING = SamplingConfig(temperature=1.0, seed=2)
PROMPT = [5, 3, 20, 17, 9, 4, 90, 8]


def written(model: AnyModel, samples: int, prompt: list[int] = PROMPT, **options: Any) -> list[list[int]]:
    rows = list(generate_ids(model, prompt, SAMPLING, samples=samples, **options))
    return [[token for row in rows if (token := row[sample]) is not None] for sample in range(samples)]


def read_by(model: AnyModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes [B, T] of what the model itself reads from now on."""
    shapes, forward = [], type(model).forward

    def noted(self: Any, ids: torch.Tensor, *given: Any, **named: Any) -> Any:
        shapes.append((ids.shape[0], ids.shape[1]))
        return forward(self, ids, *given, **named)

    monkeypatch.setattr(type(model), "forward", noted)
    return shapes


def wrapped(name: str, folder: Any) -> AnyModel:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    if name == "NeoX":
        config = transformers.GPTNeoXConfig(
            vocab_size=VOCAB, max_position_embeddings=LENGTH, initializer_range=0.4, **sizes
        )
    else:
        config = CONFIGS[name]()
    return load_wrapped(save(from_config(config), folder), context_length=LENGTH).eval()


@pytest.mark.parametrize("length", [1, 2, 8, 23, 24, 40])
def test_the_prompt_is_read_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompt = random_model(context_length=24), [(7 * n) % 250 for n in range(length)]
    alone = written(model, 1, prompt, max_new_tokens=30)[0]
    shapes = read_by(model, monkeypatch)
    together = written(model, 5, prompt, max_new_tokens=30)
    assert together[0] == alone and len({tuple(ids) for ids in together}) == 5
    wanted = [] if length == 1 else [(1, min(length, 24))]  # one token is the decoder's
    assert shapes[: len(wanted)] == wanted and {rows for rows, _ in shapes[len(wanted) :]} <= {5}


@pytest.mark.parametrize("name", ["NeoX", pytest.param("Bamba", marks=pytest.mark.slow)])
def test_a_class_of_transformers_reads_it_once(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped(name, tmp_path)
    alone = [written(model, n, max_new_tokens=20)[-1] for n in (1, 2)]
    shapes = read_by(model, monkeypatch)
    assert written(model, 4, max_new_tokens=20)[:2] == alone
    assert [shape for shape in shapes if shape[1] > 1] == [(1, len(PROMPT))]


def test_one_that_does_not_keep_rows_reads_it_for_each(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = written(wrapped("NeoX", tmp_path), 3, max_new_tokens=12)
    model = wrapped("NeoX", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.DynamicCache, "reorder_cache", lambda _cache, _rows: None)
        cache = model.new_cache(1, LENGTH)
        assert isinstance(cache, WrappedCache) and cache.manner == CacheManner(by_row=False)
    shapes = read_by(model, monkeypatch)
    assert written(model, 3, max_new_tokens=12) == expected
    assert [shape for shape in shapes if shape[1] > 1] == [(3, len(PROMPT))]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_other_states_than_keys_go_on_by_rows_too(name: str, tmp_path: Any) -> None:
    model = wrapped(name, tmp_path)
    together = written(model, 3, max_new_tokens=12)
    assert together[0] == written(model, 1, max_new_tokens=12)[0] and together[:2] == written(
        model, 2, max_new_tokens=12
    )


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows tokens are drawn for from now on."""
    counts, call = [], Sampler.__call__

    def noted(self: Sampler, logits_BV: torch.Tensor) -> torch.Tensor:
        counts.append(len(logits_BV))
        return call(self, logits_BV)

    monkeypatch.setattr(Sampler, "__call__", noted)
    return counts


@pytest.mark.parametrize("kind", ["ours", "bfloat16", "NeoX"])
def test_what_ends_is_left_out_and_changes_nothing(kind: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a context that is filled and read again, too."""
    model: AnyModel = wrapped(kind, tmp_path) if kind == "NeoX" else random_model(scale=2.0)
    model = model.to(torch.bfloat16) if kind == "bfloat16" else model
    free = written(model, 10, max_new_tokens=70)
    counts = computed(monkeypatch)
    found = written(model, 10, max_new_tokens=70, stop_ids=STOPS)
    for sample, ids in enumerate(free):
        end = next((n for n, token in enumerate(ids) if token in STOPS), len(ids) - 1)
        assert found[sample] == ids[: end + 1], sample
    lengths = [len(ids) for ids in found]
    assert len(set(lengths)) > 3 and len(counts) == max(lengths)
    for place, rows in enumerate(counts):
        going = sum(length > place for length in lengths)
        assert going <= rows < max(going / 0.75, going + 1), "a quarter of them or more are left out"


def test_a_sample_that_is_over_for_its_reader_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(scale=2.0)
    free, counts = written(model, 4, max_new_tokens=12), computed(monkeypatch)
    asked: list[int] = []

    def over(sample: int) -> bool:
        asked.append(sample)
        return sample in (1, 2) and asked.count(sample) == 5

    found = written(model, 4, max_new_tokens=12, over=over)
    assert found == [ids if sample in (0, 3) else ids[:5] for sample, ids in enumerate(free)]
    assert counts == [4] * 5 + [2] * 7
    counts.clear()
    assert written(model, 4, max_new_tokens=12, over=lambda _: True) == [ids[:1] for ids in free] and counts == [4]


def test_a_stop_string_leaves_its_sample_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [])
    model, options = random_model(context_length=64, scale=1.0), TextOptions(60, 6, sampling=SAMPLING)
    free = generate_texts(model, tokenizer, "ab", options)
    letters = [letter for letter in map(chr, range(32, 127)) if 2 <= sum(letter in text for text in free) <= 4]
    counts = computed(monkeypatch)
    found = generate_texts(model, tokenizer, "ab", dataclasses.replace(options, stop=(letters[0],)))
    assert found == [text.partition(letters[0])[0] for text in free] and counts[-1] < 6


@pytest.mark.parametrize("rows", [[0], [2], [0, 2], [1, 1, 0], [0, 0, 1, 2, 2], [2, 1]])
def test_a_cache_holds_the_rows_that_are_taken(rows: list[int]) -> None:
    model: Transformer = random_model()
    ids = torch.randint(0, 250, (3, 9), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        cache, whole = KVCache(model.config, 3, 12, ids.device), model(ids)
        model(ids[:, :6], cache=cache)
        assert cache.take(rows) and (cache.length, cache.capacity) == (6, 12)
        cache.grow(14)
        torch.testing.assert_close(model(ids[rows, 6:], cache=cache), whole[rows, 6:], atol=1e-4, rtol=1e-4)
