"""Which samples predict a token: computed, and by a replay of the loader over tokens that all differ."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import make_stream
from tilth.data.batches.interleaving import Interleaving
from tilth.data.batches.loader import Loader
from tilth.data.batches.mixture import Mixture, Ring
from tilth.data.batches.sampling import MixtureSampler, make_sampler

LENGTH = 7
SHARES = [(1,), (1, 1), (3, 7), (5, 1, 4), (1 << 30, (1 << 30) - 1, 2)]


@pytest.mark.parametrize(("same_windows", "seed"), [(False, 0), (False, 5), (True, 0)])
@pytest.mark.parametrize("sizes", [([30, 1, 2], [8, 40]), ([9],), ([5, 1, 1, 1, 6],)])
def test_samples_of_is_what_a_replay_of_the_loader_finds(
    tmp_path: Path, sizes: tuple[list[int], ...], same_windows: bool, seed: int
) -> None:
    stream = make_stream(tmp_path, list(sizes))
    loader = Loader(make_sampler(stream, LENGTH, seed, same_windows=same_windows), 1)
    predicted: dict[int, Counter[int]] = {token: Counter() for token in range(stream.tokens)}
    epochs = 4
    for _ in range(epochs * loader.samples_per_epoch):
        batch = loader.next()
        for token in batch.labels[0].tolist():
            predicted[token][int(batch.sample_ids[0])] += 1
    loader.close()
    borders = [*stream.document_starts().tolist(), stream.tokens]
    for first, stop in [*itertools.pairwise(borders), (0, stream.tokens)]:
        expected = sum((predicted[token] for token in range(first, stop)), Counter())
        found: Counter[int] = Counter()
        for epoch in range(epochs):
            samples, tokens = loader.sampler.rings[0].samples_of(first, stop, epoch)
            assert (np.diff(samples) > 0).all()
            found.update(dict(zip(samples.tolist(), tokens.tolist(), strict=True)))
        assert found == expected, (first, stop)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("first", [0, 1 << 40])
def test_numbers_of_a_sequence_lead_back(shares: tuple[int, ...], first: int) -> None:
    dealt = Interleaving(shares, key=3)
    numbers = np.arange(first, first + 500, dtype=np.int64)
    sequences, places = dealt(numbers)
    for sequence in range(len(shares)):
        own = sequences == sequence
        assert (dealt.numbers(sequence, places[own]) == numbers[own]).all()


@pytest.mark.parametrize("shares", [(1, 1), (3, 7)])
def test_samples_of_a_mixture_are_what_a_replay_finds(tmp_path: Path, shares: tuple[int, int]) -> None:
    streams = [make_stream(tmp_path / name, sizes) for name, sizes in (("a", [[30, 9], [8]]), ("b", [[25], [40, 1]]))]
    rings = [Ring(name, stream, share) for name, stream, share in zip("ab", streams, shares, strict=True)]
    sampler = MixtureSampler(Mixture(tuple(rings), 100), LENGTH, seed=2)
    done = 60
    predicted: Counter[tuple[int, int, int]] = Counter()
    for found in sampler.shares(np.arange(done, dtype=np.int64)):
        ring = streams.index(found.ring.stream)
        starts = found.ring.starts(found.numbers)
        for sample, start in zip(found.rows.tolist(), starts.tolist(), strict=True):
            for token in range(start + 1, start + 1 + LENGTH):
                predicted[ring, token % streams[ring].tokens, sample] += 1
    for ring, (own, count) in enumerate(zip(sampler.rings, sampler.counts(done), strict=True)):
        for token in range(own.stream.tokens):
            found_by = []
            for epoch in range(-(-count // own.samples_per_epoch)):
                places, _ = own.samples_of(token, token + 1, epoch)
                found_by += sampler.numbers(ring, places[places < count]).tolist()
            assert Counter(found_by) == Counter({s: n for (r, t, s), n in predicted.items() if (r, t) == (ring, token)})
