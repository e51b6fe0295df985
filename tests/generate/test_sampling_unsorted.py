"""Sampling without sorting the vocabulary: against what sorts all of it, written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.generate.test_sampling import by_id, logits
from tilth.core.random import derive_seed
from tilth.generate.config import SamplingConfig
from tilth.generate.sampling import Sampler, candidates, drawn, largest

VOCAB = 20_000


def written_out(row: list[float], config: SamplingConfig) -> dict[int, float]:
    """Probabilities of the ids that may be drawn, the likeliest first, by id where all may; in Python's floats."""
    top_p = 1.0 if config.top_p is None else config.top_p
    order = sorted(range(len(row)), key=lambda id_: (-row[id_], id_))[: config.top_k]
    weights = {id_: math.exp((row[id_] - row[order[0]]) / config.temperature) for id_ in order}
    whole, before, kept = sum(weights.values()), 0.0, {}
    for id_ in order:
        if before < top_p or top_p == 1:
            kept[id_] = weights[id_] / whole
        before += weights[id_] / whole
    if config.top_k is None and config.top_p is None:
        kept = dict(sorted(kept.items()))
    held = sum(kept.values())
    return {id_: weight / held for id_, weight in kept.items()}


def drawn_by(row: list[float], config: SamplingConfig, draw: float) -> int:
    """The id that a draw falls on, one after another."""
    reached, last = 0.0, -1
    for id_, probability in written_out(row, config).items():
        reached, last = reached + probability, id_ if probability else last
        if draw < reached:
            return id_
    return last


CONFIGS = [
    SamplingConfig(temperature=0.8),
    SamplingConfig(temperature=1.7, top_k=50),
    SamplingConfig(temperature=0.8, top_p=0.9),
    SamplingConfig(temperature=1.0, top_k=300, top_p=0.7),
]


def of_kind(kind: str) -> Tensor:
    """Logits that are flat (top-p needs nearly all), peaked, of each kind a row, or equal to many others."""
    if kind == "mixed":
        return torch.cat([of_kind("flat")[:1], of_kind("peaked")[:1], of_kind("middling")[:1]])
    if kind == "ties":
        return logits(2, VOCAB, spread=4).bfloat16().float()
    return logits(2, VOCAB, spread={"flat": 0.5, "middling": 2.0, "peaked": 8.0}[kind])


@pytest.mark.parametrize("kind", ["flat", "peaked", "middling", "mixed", "ties"])
@pytest.mark.parametrize("config", CONFIGS)
def test_tokens_are_those_of_a_sorted_vocabulary(kind: str, config: SamplingConfig) -> None:
    raw = of_kind(kind)
    streams = [np.random.Generator(np.random.PCG64(derive_seed(config.seed, "generate", i))) for i in range(len(raw))]
    sampler = Sampler(config, len(raw))
    for _ in range(3):
        expected = [drawn_by(row, config, stream.random()) for row, stream in zip(raw.tolist(), streams, strict=True)]
        assert sampler(raw).tolist() == expected
    probabilities = by_id(*candidates(raw, config), VOCAB)
    for row, found in zip(raw.tolist(), probabilities, strict=True):
        reference = torch.zeros(VOCAB)
        for id_, probability in written_out(row, config).items():
            reference[id_] = probability
        torch.testing.assert_close(found, reference, atol=1e-7, rtol=1e-4)
        # Sums of thousands in fp32 reach `top_p` a little earlier or later.
        assert abs(int((found > 0).sum()) - int((reference > 0).sum())) <= 1e-4 * VOCAB


@pytest.mark.parametrize("count", [1, 2, 7, 60, 199, 200, 500])
def test_the_largest_are_the_first_of_a_stable_sort(count: int) -> None:
    """Of 200 numbers with 5 values, and two that may not be drawn."""
    raw = torch.randint(0, 5, (6, 200), generator=torch.Generator().manual_seed(1)).float()
    raw[:, 3], raw[:, 150] = -torch.inf, -torch.inf
    values, ids = raw.sort(dim=-1, descending=True, stable=True)
    found = largest(raw, count)
    assert torch.equal(found[0], values[:, :count]) and torch.equal(found[1], ids[:, :count])


@pytest.mark.parametrize("count", [1, 3, 255, 256, 257, 512, 1000])
def test_a_draw_falls_where_the_weights_reach_it(count: int) -> None:
    weights = torch.rand(64, count, generator=torch.Generator().manual_seed(2))
    weights[torch.rand(64, count, generator=torch.Generator().manual_seed(3)) < 0.5] = 0.0
    weights[:, count // 2] = 0.25  # something can be drawn
    for draws in (torch.zeros(64), torch.full((64,), 1 - 2**-53), torch.rand(64)):
        draws = draws.double()
        places, known = drawn(weights, draws)
        sums = weights.double().cumsum(-1)
        expected = (sums <= (draws * sums[:, -1])[:, None]).sum(-1)
        assert known.all() and (weights.gather(-1, places[:, None]) > 0).all(), "a weight of 0 is never drawn"
        if draws.max() < 1 - 2**-53:
            assert torch.equal(places, expected)
        else:
            lasts = [int(row.nonzero()[-1]) for row in weights]
            assert places.tolist() == lasts


@pytest.mark.parametrize("more", [{}, {"top_k": 3}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.5}])
def test_logits_may_be_anything(more: dict[str, Any]) -> None:
    inf, nan = torch.inf, torch.nan
    rows = {
        0: [5.0, -inf, -inf, -inf],  # one candidate
        2: [-inf, -inf, 1e-30, -inf],
        3: [-inf, -3e38, -3e38, 3e38],
        1: [0.0, nan, 1.0, nan],  # as greedy takes it
    }
    raw = torch.tensor([*rows.values(), [0.0, 0.0, inf, 9.0], [-inf] * 4])
    for temperature in (1e-300, 1e-38, 1.0, 1e30):
        config = SamplingConfig(temperature=temperature, **more)
        if temperature > 1:
            assert set(Sampler(config, 1)(raw[:1]).tolist()) == {0}, "what is out cannot come in"
        else:
            assert Sampler(config, len(raw))(raw).tolist() == [0, 2, 3, 1, 2, 0]


def test_a_small_temperature_draws_among_equals() -> None:
    raw = torch.full((400, 5000), -1.0)
    raw[:, [70, 4000]] = 2.0
    found = Sampler(SamplingConfig(temperature=1e-300), 400)(raw)
    assert set(found.tolist()) == {70, 4000} and 150 < int((found == 70).sum()) < 250


def test_those_that_are_kept_draw_on_as_before() -> None:
    steps = [logits(1, 3000, seed=step).expand(5, -1) for step in range(12)]
    whole, part = (Sampler(SamplingConfig(temperature=1.0), 5) for _ in range(2))
    expected = torch.stack([whole(row) for row in steps])
    found = [part(row) for row in steps[:4]]
    part.keep([1, 4])
    assert torch.equal(torch.stack(found), expected[:4])
    assert torch.equal(torch.stack([part(row[:2]) for row in steps[4:]]), expected[4:, [1, 4]])


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_many_candidates_are_drawn_as_often_as_they_should_be(config: SamplingConfig) -> None:
    """Pearson's chi-square over 20,000 draws, in several blocks, unlikely ids taken together."""
    draws, raw = 20_000, logits(1, 1500, seed=4, spread=1.5)
    expected = torch.zeros(1500, dtype=torch.float64)
    for id_, probability in written_out(raw[0].tolist(), config).items():
        expected[id_] = probability
    sampler, found = Sampler(config, 500), torch.zeros(1500, dtype=torch.float64)
    for _ in range(draws // 500):
        found += torch.bincount(sampler(raw.expand(500, -1)), minlength=1500)
    assert not found[expected == 0].any()
    often = draws * expected >= 5
    counts = torch.stack([torch.cat([part[often], part[~often].sum()[None]]) for part in (found, draws * expected)])
    counts = counts[:, counts[1] > 0]
    chi_square = ((counts[0] - counts[1]) ** 2 / counts[1]).sum()
    freedom = counts.shape[1] - 1
    assert chi_square < freedom + 4.3 * (2 * freedom) ** 0.5 + 15
