"""Who goes for whom: against a reference that compares all with all, in any order of the documents."""

from __future__ import annotations

import itertools
import random

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dedup import choose, components, preference

edges = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.8, 0.85, 0.9, 1.0]),
    max_size=20,
)


def greedy(order: list[int], similar: dict[frozenset[int], float]) -> dict[int, int]:
    """The definition: in the order of preference, one goes when it is similar to one that stays."""
    stays: list[int] = []
    gone = {}
    for document in order:
        near = [
            (-similar[frozenset((document, k))], stays.index(k), k)
            for k in stays
            if frozenset((document, k)) in similar
        ]
        if near:
            gone[document] = min(near)[2]
        else:
            stays.append(document)
    return gone


@given(edges, st.permutations(range(10)))
def test_the_choice_is_that_of_the_definition(pairs: dict[tuple[int, int], float], order: list[int]) -> None:
    places = np.empty(10, np.int64)
    places[list(order)] = np.arange(10)
    oriented = [(a, b) if places[a] < places[b] else (b, a) for a, b in pairs]
    stays_for, values = choose(np.array(oriented, np.int64).reshape(-1, 2), np.array(list(pairs.values())), places)
    expected = greedy(list(order), {frozenset(pair): value for pair, value in pairs.items()})
    assert {n: int(k) for n, k in enumerate(stays_for) if n != k} == expected
    for n, k in expected.items():
        assert values[n] == pairs.get((n, k), pairs.get((k, n)))


@given(edges)
def test_components_are_those_of_the_graph(pairs: dict[tuple[int, int], float]) -> None:
    graph = networkx.Graph(list(pairs))
    graph.add_nodes_from(range(10))
    labels = components(np.array(list(pairs), np.int64).reshape(-1, 2), 10)
    for group in networkx.connected_components(graph):
        assert {int(labels[n]) for n in group} == {min(group)}


@pytest.mark.parametrize("length", [2, 1000])
def test_a_long_chain_is_one_component_and_its_links_are_not_all_dropped(length: int) -> None:
    shuffled = random.Random(length).sample(range(length), length)
    pairs = np.array(list(itertools.pairwise(shuffled)), np.int64)
    assert set(components(pairs, length).tolist()) == {0}
    places = np.empty(length, np.int64)
    places[shuffled] = np.arange(length)
    stays_for, _ = choose(pairs, np.full(length - 1, 0.9), places)
    assert (stays_for == np.arange(length)).sum() == (length + 1) // 2, "every second one is like none that stays"


def test_the_longest_is_preferred_and_of_equals_the_smaller_id() -> None:
    ids = ["d", "a", "c", "b"]
    assert preference(np.array([5, 9, 5, 9]), ids, "longest").tolist() == [3, 0, 2, 1]
    assert preference(np.array([5, 9, 5, 9]), ids, "first").tolist() == [0, 1, 2, 3]
