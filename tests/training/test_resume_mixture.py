"""A run over a mixture goes on to the same bits from any step, across the ends of its sources' epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.helpers import make_stream
from tests.training.helpers import equal, make_trainer, weights
from tilth.data.batches.mixture import Mixture, Ring
from tilth.data.batches.sampling import MixtureSampler


def mixture(folder: Path) -> Mixture:
    sizes = {"large": (3, [[50, 40]]), "small": (1, [[20, 13]])}
    rings = [Ring(name, make_stream(folder / name, lengths, 130), share) for name, (share, lengths) in sizes.items()]
    return Mixture(tuple(rings), 120)


@pytest.mark.slow
def test_going_on_after_every_step_gives_the_same_bits(tmp_path: Path) -> None:
    tokens = mixture(tmp_path)
    first = make_trainer(tmp_path, tokens=tokens)
    first.run()
    sampler = first.parts.loader.sampler
    assert isinstance(sampler, MixtureSampler)
    ends = [one["epochs"] for one in sampler.seen(60)]
    assert min(ends) > 3, "both sources were seen several times"
    middles = {step for step in range(1, 10) if any(one["epochs"] % 1 for one in sampler.seen(6 * step))}
    assert len(middles) > 5, "and most checkpoints lie within an epoch"
    for step in range(1, 11):
        trainer = make_trainer(tmp_path, tokens=tokens)
        trainer.restore(trainer.parts.store.at(step))
        assert trainer.run() == "steps"
        assert equal(weights(trainer), weights(first)), f"after step {step}"


def test_the_test_can_tell(tmp_path: Path) -> None:
    """One sample further on, and the weights are others."""
    tokens = mixture(tmp_path)
    first = make_trainer(tmp_path, tokens=tokens)
    first.run()
    other = make_trainer(tmp_path, tokens=tokens)
    other.restore(other.parts.store.at(5))
    other.parts.loader.samples += 1
    other.run()
    assert not equal(weights(other), weights(first))
