"""Which samples predict a token: computed, and by a replay of the loader over tokens that all differ."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import make_stream
from tilth.data.loader import Loader

LENGTH = 7


@pytest.mark.parametrize(("same_windows", "seed"), [(False, 0), (False, 5), (True, 0)])
@pytest.mark.parametrize("sizes", [([30, 1, 2], [8, 40]), ([9],), ([5, 1, 1, 1, 6],)])
def test_samples_of_is_what_a_replay_of_the_loader_finds(
    tmp_path: Path, sizes: tuple[list[int], ...], same_windows: bool, seed: int
) -> None:
    stream = make_stream(tmp_path, list(sizes))
    loader = Loader(stream, LENGTH, 1, seed, same_windows=same_windows)
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
            samples, tokens = loader.sampler.samples_of(first, stop, epoch)
            assert (np.diff(samples) > 0).all()
            found.update(dict(zip(samples.tolist(), tokens.tolist(), strict=True)))
        assert found == expected, (first, stop)
