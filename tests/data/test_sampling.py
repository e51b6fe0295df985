"""Samples of a mixture: asked-for proportions in every prefix, each source whole in each of its epochs, one order for
every number of processes, and a state of a few numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.helpers import write_documents
from tilth.core.errors import CheckpointError
from tilth.data.batches.batch import Batch
from tilth.data.batches.interleaving import Interleaving
from tilth.data.batches.loader import Loader
from tilth.data.batches.mixture import Mixture, Ring
from tilth.data.batches.sampling import MixtureSampler, make_sampler
from tilth.data.shards import Shard, TokenStream

T = 8


def mixture(folder: Path, shares: Sequence[int] = (6, 3, 1), lengths: Sequence[int] = (201, 90, 35)) -> Mixture:
    """Rings whose tokens differ: 0.., 1000.., 2000.."""
    rings = []
    for number, (share, length) in enumerate(zip(shares, lengths, strict=True)):
        place = folder / f"ring-{number}"
        if not place.exists():
            write_documents(place, [length // 2, length - length // 2], 9000, 1000 * number)
        rings.append(Ring(f"s{number}", TokenStream([Shard(place)]), share))
    return Mixture(tuple(rings), sum(lengths))


def loader(made: Mixture, rows: int = 12, **options: object) -> Loader:
    isolate = bool(options.pop("isolate", False))
    sampler = make_sampler(made, T, seed=3, isolate=isolate)
    return Loader(sampler, rows, fingerprint="d", **options)  # type: ignore[arg-type]


def rings_of(batch: Batch) -> list[int]:
    return [int(first) // 1000 for first in batch.input_ids[:, 0]]


shares_lists = st.lists(st.one_of(st.integers(1, 9), st.integers(1, 10**8)), min_size=1, max_size=8)


@settings(deadline=None)
@given(shares_lists, st.integers(0, 2**40), st.integers(0, 2**60))
def test_every_prefix_has_the_asked_proportions(shares: list[int], first: int, key: int) -> None:
    dealt = Interleaving(shares, key)
    start, total = np.array(dealt.counts(first)), sum(shares)
    assert start.sum() == first
    numbers = np.arange(first, first + 300)
    sequences, places = dealt(numbers)
    one_hot = sequences[:, None] == np.arange(len(shares))
    counts = start + np.cumsum(one_hot, axis=0)
    for row in (0, 1, 17, 299):
        assert dealt.counts(first + row + 1) == counts[row].tolist(), "computed and counted are one"
        exact = [(first + row + 1) * share for share in shares]
        off = max(abs(int(c) * total - e) for c, e in zip(counts[row], exact, strict=True))
        assert off < (1 if len(shares) <= 2 else 4) * total
    own = counts[np.arange(300), sequences] - 1
    assert np.array_equal(places, own), "a number's place is how many of its sequence stood before"


def test_the_key_decides_the_order_and_the_proportions_do_not_depend_on_it() -> None:
    numbers = np.arange(1000)
    one, two = (Interleaving([5, 3, 2], key)(numbers)[0] for key in (1, 2))
    assert not np.array_equal(one, two) and np.array_equal(one, Interleaving([5, 3, 2], 1)(numbers)[0])
    assert np.bincount(one).tolist() == pytest.approx([500, 300, 200], abs=2)
    assert Interleaving([7], 1)(numbers)[1].tolist() == numbers.tolist()


def test_a_source_is_seen_whole_in_each_of_its_epochs_and_each_epoch_is_another(tmp_path: Path) -> None:
    reader = loader(mixture(tmp_path))
    drawn: dict[int, list[tuple[int, ...]]] = {0: [], 1: [], 2: []}
    for _ in range(40):
        batch = reader.next()
        for ring, row in zip(rings_of(batch), batch.input_ids.tolist(), strict=True):
            drawn[ring].append(tuple(row))
    reader.close()
    for ring, length in enumerate((201, 90, 35)):
        windows = length // T
        epochs = [drawn[ring][n : n + windows] for n in range(0, len(drawn[ring]) - windows + 1, windows)]
        assert len(epochs) >= 7
        for epoch in epochs:
            tokens = [token for row in epoch for token in row]
            assert len(tokens) == windows * T == len(set(tokens)), "each window of the ring once"
            assert set(tokens) <= set(range(1000 * ring, 1000 * ring + length))
        assert epochs[0] != epochs[1]


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("world_size", [2, 4, 5, 7])
def test_ranks_share_the_batch_that_one_process_sees(tmp_path: Path, world_size: int, isolate: bool) -> None:
    made = mixture(tmp_path)
    alone = loader(made, isolate=isolate)
    ranks = [loader(made, rank=r, world_size=world_size, isolate=isolate) for r in range(world_size)]
    for _ in range(9):
        whole, parts = alone.next(), [rank.next() for rank in ranks]
        for name in ("input_ids", "labels", "sample_ids", "doc_ids", "positions"):
            values = [getattr(part, name) for part in parts]
            assert (getattr(whole, name) is None) == (values[0] is None)
            if values[0] is not None:
                assert np.array_equal(getattr(whole, name), np.concatenate(values))
    for reader in (alone, *ranks):
        reader.close()


def test_rows_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    made = mixture(tmp_path)
    reader = loader(made)
    batch = reader.next()
    reader.close()
    assert batch.sample_ids.tolist() == list(range(12))
    expected = Interleaving([6, 3, 1], 3)(np.arange(12))[0]
    assert rings_of(batch) == expected.tolist() and len(set(rings_of(batch))) > 1
    lengths = np.array([201, 90, 35])[expected][:, None]
    base = 1000 * expected[:, None]
    assert np.array_equal(batch.labels, (batch.input_ids - base + 1) % lengths + base), "labels are the next tokens"


def test_going_on_after_any_step_equals_not_stopping(tmp_path: Path) -> None:
    made = mixture(tmp_path)
    reader = loader(made)
    states, batches = [], []
    for _ in range(12):
        states.append(json.loads(json.dumps(reader.state_dict())))
        batches.append(reader.next().input_ids)
    reader.close()
    for step, state in enumerate(states):
        other = loader(made)
        other.load_state_dict(state)
        assert all(np.array_equal(batch, other.next().input_ids) for batch in batches[step : step + 2])
        other.close()


def test_another_mixture_or_none_is_refused(tmp_path: Path) -> None:
    made = mixture(tmp_path)
    mixed, plain = loader(made), Loader(make_sampler(made.rings[0].stream, T, 3), 12, fingerprint="d")
    other = Mixture((*made.rings[:2], Ring("s2", made.rings[2].stream, 2)), made.epoch_tokens)
    for here, state in ((loader(other), mixed.state_dict()), (plain, mixed.state_dict()), (mixed, plain.state_dict())):
        with pytest.raises(CheckpointError, match="mixture"):
            here.load_state_dict(state)
    assert "mixture" not in json.dumps(plain.state_dict()), "without one nothing has changed"


def test_what_was_seen_is_counted_by_source(tmp_path: Path) -> None:
    sampler = MixtureSampler(mixture(tmp_path), T, 3)
    seen = sampler.seen(300)
    drawn = Counter(Interleaving([6, 3, 1], 3)(np.arange(300))[0].tolist())
    assert [one["tokens"] for one in seen] == [drawn[n] * T for n in range(3)]
    epochs = [drawn[n] / (length // T) for n, length in enumerate((201, 90, 35))]
    assert [one["epochs"] for one in seen] == pytest.approx(epochs, abs=1e-4)
    assert [one["share"] for one in seen] == [0.6, 0.3, 0.1]
