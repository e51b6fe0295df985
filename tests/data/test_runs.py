"""Numbers of several sorted runs, merged in pieces: against a set of all of them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.duplicates import runs
from tilth.data.duplicates.runs import NumbersOnDisk, distinct, merged_numbers

numbers = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 9), max_size=60)


def merged_of(runs_: Sequence[Sequence[int]], at_once: int) -> list[list[int]]:
    """The pieces of runs that lie on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        on_disk = [NumbersOnDisk(Path(folder) / str(n), np.array(sorted(one), np.int64)) for n, one in enumerate(runs_)]
        return [piece.tolist() for piece in merged_numbers(on_disk, at_once)]


@given(st.lists(numbers, min_size=1, max_size=5), st.integers(1, 50), st.integers(1, 9))
def test_numbers_of_all_runs_come_once_and_rising(given_: list[list[int]], at_once: int, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_STEP", step)
        assert list(itertools.chain.from_iterable(merged_of(given_, at_once))) == sorted(set().union(*given_))


def test_a_piece_is_about_as_large_as_it_may_be_however_the_numbers_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_STEP", 128)
    draw = np.random.default_rng(0)
    crowded = [np.sort((draw.random(20_000) ** 9 * 2**62).astype(np.int64)) for _ in range(5)]
    sizes = [len(piece) for piece in merged_of([run.tolist() for run in crowded], 10_000)]
    assert len(sizes) == 10 and max(sizes) < 11_000


@given(numbers)
def test_distinct_numbers_are_those_of_a_set(given_: list[int]) -> None:
    assert distinct(np.array(given_, np.int64)).tolist() == sorted(set(given_))
