"""MinHash against the definition: real Jaccard similarities, the probability of a shared band, every pair of a band."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.planted import planted, words_of
from tilth.data.duplicates import minhash
from tilth.data.duplicates.minhash import (
    MinHash,
    MinHashConfig,
    common_count,
    common_counts,
    jaccard,
    sharing,
    shingles,
)
from tilth.data.words import U64

next(shingles(["the tables are made at the first call, which would miss the deadline", "é"], 1))
small_sets = st.lists(st.sampled_from(list("abcdefgh")), max_size=12)


def ngram_set(words: list[str], n: int) -> set[tuple[str, ...]]:
    if 0 < len(words) < n:
        return {tuple(words)}
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def sets_of(texts: list[str], n: int) -> list[U64]:
    return [own for hashes, counts in shingles(texts, n) for own in np.split(hashes, np.cumsum(counts)[:-1])]


@given(small_sets, small_sets, st.integers(1, 4))
def test_similarity_is_that_of_the_sets_of_ngrams(a: list[str], b: list[str], n: int) -> None:
    x, y = ngram_set(a, n), ngram_set(b, n)
    first, second = sets_of([" ".join(a), " ".join(b)], n)
    expected = len(x & y) / len(x | y) if x and y else 0.0
    assert jaccard(first, second) == jaccard(second, first) == pytest.approx(expected)


@given(st.lists(st.tuples(small_sets, small_sets), min_size=1, max_size=6))
def test_many_pairs_at_once_have_what_they_have_one_by_one(pairs: list[tuple[list[str], list[str]]]) -> None:
    sets = sets_of([" ".join(words) for pair in pairs for words in pair], 2)
    sizes = np.array([len(one) for one in sets], np.int64)
    starts = np.cumsum(sizes) - sizes
    counts = common_counts(np.concatenate(sets), starts.reshape(-1, 2), sizes.reshape(-1, 2))
    assert counts.tolist() == [common_count(a, b) for a, b in zip(sets[::2], sets[1::2], strict=True)]


def test_signatures_do_not_depend_on_the_batch() -> None:
    texts = [" ".join(words_of(random.Random(n), 50 + 97 * n % 400)) for n in range(120)] + ["", "two words"]
    hasher = MinHash(MinHashConfig())
    whole = hasher.bands(texts)
    assert (whole == np.concatenate([hasher.bands([text]) for text in texts])).all()
    assert (whole == hasher.bands(["x " * 300_000, *texts])[1:]).all(), "a block that ends within a text"


@pytest.mark.slow
@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_the_share_that_is_found_is_the_one_of_the_formula(similarity: float) -> None:
    config = MinHashConfig(cuts=1)
    pairs = [planted(random.Random(n), similarity, config.ngram) for n in range(400)]
    measured = [jaccard(*sets_of(list(pair), config.ngram)) for pair in pairs]
    assert np.mean(measured) == pytest.approx(similarity, abs=0.02)
    hasher = MinHash(config)
    first, second = (hasher.bands([pair[side] for pair in pairs]) for side in (0, 1))
    found = (first == second).any(axis=1).mean()
    expected = np.mean([1 - (1 - j**config.rows) ** config.bands for j in measured])
    # Five standard deviations of a mean of 400 draws.
    assert found == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 400) + 0.005)
    first, second = (MinHash(MinHashConfig()).bands([pair[side] for pair in pairs]) for side in (0, 1))
    assert found <= (first == second).any(axis=1).mean(), "more cuts of the same signature only find more"
    if similarity == 0.8:
        assert (first == second).any(axis=1).mean() > 0.97


@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=12), st.randoms())
def test_candidates_are_the_pairs_that_share_a_band(rows: list[list[int]], draw: random.Random) -> None:
    bands = np.array(rows, np.uint64).reshape(-1, 2)
    places = list(range(len(rows)))
    draw.shuffle(places)
    order = np.argsort(places)
    found = {
        (int(order[a]), int(order[b]))
        for own in bands.T
        for some in sharing(own[order])
        for a, b in zip(*some, strict=True)
    }
    expected = {
        (i, j) if places[i] < places[j] else (j, i)
        for i, j in itertools.combinations(range(len(rows)), 2)
        if any(a == b and a for a, b in zip(rows[i], rows[j], strict=True))  # 0: a text without words is like no other
    }
    assert found == expected


@pytest.mark.parametrize("at_once", [100, 1 << 18])
def test_a_band_that_very_many_share_does_not_give_all_pairs(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minhash, "_PAIRS_AT_ONCE", at_once)
    pieces = [list(zip(*(one.tolist() for one in some), strict=True)) for some in sharing(np.full(5000, 7, np.uint64))]
    assert max(map(len, pieces)) <= at_once
    pairs = set(itertools.chain.from_iterable(pieces))
    first = {(0, b) for b in range(1, 5000)}
    assert first < pairs, "each is compared with the preferred one"
    assert pairs - first == {(b - gap, b) for gap in range(1, 5) for b in range(gap + 1, 5000)}


def test_texts_that_share_a_band_are_all_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.repeat(np.arange(1, 31, dtype=np.uint64), 6)
    whole = {pair for some in sharing(hashes) for pair in zip(*(one.tolist() for one in some), strict=True)}
    monkeypatch.setattr(minhash, "_PAIRS_AT_ONCE", 40)
    pieces = [list(zip(*(one.tolist() for one in some), strict=True)) for some in sharing(hashes)]
    assert max(map(len, pieces)) == 30 and len(whole) == 30 * 15
    assert set(itertools.chain.from_iterable(pieces)) == whole
