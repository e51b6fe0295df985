"""Token by token with a cache: the same ids as by running the whole model for every token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.generate.helpers import random_model
from tilth.generate.config import SamplingConfig
from tilth.generate.decode import next_logits
from tilth.generate.engine import generate_ids
from tilth.model.kv_cache import KVCache
from tilth.model.transformer import Transformer

GREEDY = SamplingConfig(temperature=0.0)
PROMPT = [5, 3, 200, 17]


def column(rows: list[list[int | None]], sample: int = 0) -> list[int]:
    return [token for row in rows if (token := row[sample]) is not None]


def written(
    model: Transformer, prompt: list[int], sampling: SamplingConfig = GREEDY, **options: Any
) -> list[list[int | None]]:
    return list(generate_ids(model, prompt, sampling, **options))


@torch.no_grad()
def uncached_greedy(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """The same by a full pass over all that the context holds, for every token."""
    ids, window, start = list(prompt), model.config.context_length, max(0, len(prompt) - model.config.context_length)
    for _ in range(count):
        if len(ids) - start > window:
            start = len(ids) - max(1, window // 2)
        ids.append(int(model.logits(model(torch.tensor([ids[start:]])))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"position": "learned", "norm": "layernorm", "activation": "gelu_tanh", "bias": True},
        {"num_key_value_heads": 1, "qk_norm": True},
        {"tie_word_embeddings": False},
    ],
)
def test_greedy_is_the_argmax_of_the_uncached_logits(changes: dict[str, Any]) -> None:
    model = random_model(**changes)
    ids = column(written(model, PROMPT, max_new_tokens=20))
    assert ids == uncached_greedy(model, PROMPT, 20)
    assert len(set(ids)) >= 3, "a model that repeats itself would prove little"


@pytest.mark.parametrize("length", [1, 2, 23, 24, 25, 60])
def test_a_full_context_goes_on_with_its_last_half(length: int) -> None:
    model = random_model()
    prompt = [(7 * n) % 250 for n in range(length)]
    ids = column(written(model, prompt, max_new_tokens=70))
    assert len(ids) == 70 and ids == uncached_greedy(model, prompt, 70)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_smallest_contexts_go_on_too(context: int) -> None:
    model = random_model(context_length=context)
    assert column(written(model, [9], max_new_tokens=9)) == uncached_greedy(model, [9], 9)


@pytest.mark.parametrize("split", [1, 4, 9, 14])
def test_cached_logits_equal_uncached_ones(split: int) -> None:
    model, ids = random_model(), torch.randint(0, 257, (2, 15), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.logits(model(ids))
        cache = KVCache(model.config, 2, 24, ids.device)
        pieces = [next_logits(model, ids[:, :split], cache)]
        pieces += [next_logits(model, ids[:, n : n + 1], cache) for n in range(split, 15)]
    torch.testing.assert_close(torch.stack(pieces, 1), whole[:, split - 1 :], atol=1e-4, rtol=1e-4)
    assert whole.abs().max() > 1, "logits near zero would agree by themselves"


def test_samples_are_the_same_alone_or_among_others() -> None:
    model, sampling = random_model(), SamplingConfig(temperature=1.0, seed=2)
    many = written(model, PROMPT, sampling, samples=4, max_new_tokens=40)
    few = written(model, PROMPT, sampling, samples=2, max_new_tokens=40)
    for sample in range(2):
        assert column(many, sample) == column(few, sample)
    assert len({tuple(column(many, sample)) for sample in range(4)}) == 4


def test_a_sample_ends_after_a_stop_id_and_the_others_go_on() -> None:
    model, sampling = random_model(scale=1.0), SamplingConfig(temperature=3.0, seed=1)
    free = written(model, PROMPT, sampling, samples=3, max_new_tokens=60)
    stops = set(column(free, 0)[10:11])
    rows = written(model, PROMPT, sampling, samples=3, max_new_tokens=60, stop_ids=stops)
    for sample in range(3):
        ids = column(free, sample)
        end = next((n for n, token in enumerate(ids) if token in stops), len(ids) - 1)
        assert column(rows, sample) == ids[: end + 1], "the stop id is the last, and nothing else changes"
    assert len(column(rows, 0)) <= 11


def test_it_ends_when_all_samples_have() -> None:
    model = random_model()
    first = column(written(model, PROMPT, max_new_tokens=5))
    rows = written(model, PROMPT, samples=3, max_new_tokens=50, stop_ids={first[2]})
    assert len(rows) == first.index(first[2]) + 1 and rows[-1] == [first[2]] * 3


def test_ids_beyond_the_tokenizers_are_never_written() -> None:
    model = random_model(vocab_size=600)
    sampling = SamplingConfig(temperature=5.0)
    assert max(column(written(model, PROMPT, sampling, max_new_tokens=60))) >= 257
    assert max(column(written(model, PROMPT, sampling, max_new_tokens=60, vocab_size=257))) < 257
    assert max(column(written(model, PROMPT, max_new_tokens=20, vocab_size=100))) < 100
