"""Sampling against transformers' warpers, against counted draws, and against itself alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tilth.core.config import parse
from tilth.generate.config import SamplingConfig
from tilth.generate.sampling import Sampler, candidates


def logits(rows: int = 8, vocab: int = 50, seed: int = 0, spread: float = 3.0) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * spread


def by_id(probabilities_BN: Tensor, ids_BN: Tensor | None, vocab: int) -> Tensor:
    """Probabilities [B, V] in the order of ids."""
    if ids_BN is None:
        return probabilities_BN
    return torch.zeros(len(ids_BN), vocab).scatter(1, ids_BN, probabilities_BN / probabilities_BN.sum(-1, keepdim=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(None, None), (1, None), (7, None), (500, None), (None, 0.9), (None, 0.05), (None, 1.0), (9, 0.7)],
)
def test_candidates_are_those_of_transformers(
    seed: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    raw = logits(seed=seed)
    theirs = TemperatureLogitsWarper(temperature)(None, raw)
    if top_k is not None:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p is not None and top_p < 1:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    ours = by_id(*candidates(raw, config), raw.shape[1])
    expected = theirs.softmax(-1)
    assert torch.equal(ours > 0, expected > 0)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_the_likeliest_stays_however_small_top_p_is() -> None:
    raw = logits()
    probabilities, ids = candidates(raw, SamplingConfig(temperature=1.0, top_p=1e-12))
    assert ((probabilities > 0).sum(-1) == 1).all()
    assert ids is not None and torch.equal(ids[:, 0], raw.argmax(-1))


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=0.0),
        SamplingConfig(temperature=2.0, top_k=1),
        SamplingConfig(temperature=2.0, top_p=1e-9),
        SamplingConfig(temperature=1e-40),
        SamplingConfig(temperature=1e-300),
    ],
)
def test_there_are_several_ways_to_be_greedy(config: SamplingConfig) -> None:
    raw = logits(64)
    assert torch.equal(Sampler(config, 64)(raw), raw.argmax(-1))


def test_of_equal_logits_greedy_takes_the_first_id() -> None:
    raw = torch.zeros(3, 20)
    for config in (SamplingConfig(temperature=0), SamplingConfig(top_k=1)):
        assert Sampler(config, 3)(raw).tolist() == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=1.0),
        SamplingConfig(temperature=0.5),
        SamplingConfig(temperature=1.5, top_k=6),
        SamplingConfig(temperature=1.0, top_p=0.8),
    ],
)
def test_tokens_are_drawn_as_often_as_they_should_be(config: SamplingConfig) -> None:
    """Pearson's chi-square over 20,000 draws; a right sampler exceeds these bounds once in 10^5 tests."""
    draws, raw = 20_000, logits(1, 12, seed=4, spread=1.2)
    expected = by_id(*candidates(raw, config), 12)[0].double()
    found = torch.bincount(Sampler(config, draws)(raw.expand(draws, -1)), minlength=12).double()
    assert not found[expected == 0].any()
    possible = expected > 0
    chi_square = ((found - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum()
    freedom = int(possible.sum()) - 1
    assert chi_square < freedom + 4.3 * (2 * freedom) ** 0.5 + 15
    wrong = expected.roll(1)  # the same test must refuse other probabilities
    assert ((found - draws * wrong)[wrong > 0] ** 2 / (draws * wrong[wrong > 0])).sum() > 1000


@pytest.mark.slow
def test_draws_follow_one_another_as_often_as_they_should() -> None:
    """One sample's draws over many steps, not many samples' first draws."""
    sampler, raw = Sampler(SamplingConfig(temperature=1.0, seed=9), 1), torch.tensor([[0.0, 0.0, np.log(2.0)]])
    found = torch.tensor([int(sampler(raw)) for _ in range(4000)])
    share = torch.bincount(found, minlength=3) / 4000
    assert (share - torch.tensor([0.25, 0.25, 0.5])).abs().max() < 0.04
    pairs = torch.bincount(found[:-1] * 3 + found[1:], minlength=9) / 3999
    assert (pairs - torch.outer(share, share).flatten()).abs().max() < 0.03, "one draw says nothing of the next"


def test_a_sample_is_the_same_alone_or_among_others() -> None:
    config = SamplingConfig(temperature=1.0, seed=5)
    steps = [logits(1, 40, seed=step) for step in range(30)]
    many, few = Sampler(config, 7), Sampler(config, 3)
    together = torch.stack([many(row.expand(7, -1)) for row in steps], 1)
    assert torch.equal(torch.stack([few(row.expand(3, -1)) for row in steps], 1), together[:3])
    assert len({tuple(row) for row in together.tolist()}) == 7
    other = Sampler(config.model_copy(update={"seed": 6}), 7)
    assert not torch.equal(torch.stack([other(row.expand(7, -1)) for row in steps], 1), together)


def test_sampling_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    Sampler(SamplingConfig(), 4)(logits(4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]


def test_the_config_may_not_be_nonsense() -> None:
    for values in ({"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"temperature": float("nan")}):
        with pytest.raises(Exception, match=next(iter(values))):
            parse(SamplingConfig, values)
