"""Who goes for whom: against a reference that compares all with all, in any order of the documents."""

from __future__ import annotations

import itertools
import random

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.duplicates.dedup import F64, I64, Choice, components

edges = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.5, 0.8, 0.85, 0.9, 1.0]),
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


def chosen(similar: dict[frozenset[int], float], order: list[int], cuts: set[int], *, drop: bool = True) -> Choice:
    """The choice among pairs that come by in the order of preference, cut into stretches between second documents."""
    choice, place = Choice(len(order), drop=drop), {document: n for n, document in enumerate(order)}
    oriented = [tuple(sorted(pair, key=place.__getitem__)) for pair in similar]
    oriented.sort(key=lambda pair: (place[pair[1]], place[pair[0]]))
    stretches: list[list[tuple[int, ...]]] = [[]]
    for before, pair in zip([None, *oriented], oriented, strict=False):
        if before and before[1] != pair[1] and place[pair[1]] in cuts:
            stretches.append([])
        stretches[-1].append(pair)

    def similarity(pairs: I64) -> F64:
        return np.array([similar[frozenset(pair)] for pair in pairs.tolist()])

    for stretch in stretches:
        choice.add(np.array(stretch, np.int64).reshape(-1, 2), similarity, 0.8)
    return choice


@given(edges, st.permutations(range(10)), st.sets(st.integers(0, 9)), st.booleans())
def test_the_choice_is_that_of_the_definition(
    pairs: dict[tuple[int, int], float], order: list[int], cuts: set[int], drop: bool
) -> None:
    similar = {frozenset(pair): value for pair, value in pairs.items()}
    near = {pair: value for pair, value in similar.items() if value >= 0.8}
    choice = chosen(similar, order, cuts, drop=drop)
    expected = greedy(order, near) if drop else {}
    assert {int(n): int(choice.stays_for[n]) for n in choice.goes()} == expected
    for n, k in expected.items():
        assert choice.values[n] == similar[frozenset((n, k))]
    graph, found = networkx.Graph([tuple(pair) for pair in near]), networkx.Graph(choice.ties().tolist())
    assert sorted(map(sorted, networkx.connected_components(graph))) == sorted(
        map(sorted, networkx.connected_components(found))
    )
    assert choice.compared <= len(similar)


def test_where_all_are_alike_each_is_compared_once() -> None:
    similar = {frozenset(pair): 0.9 for pair in itertools.combinations(range(40), 2)}
    for cuts in (set(), {10, 20}, set(range(40))):
        choice = chosen(similar, list(range(40)), cuts)
        assert choice.stays_for.tolist() == [0] * 40 and choice.compared == 39


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
    choice = chosen({frozenset(pair): 0.9 for pair in pairs.tolist()}, shuffled, set(range(0, length, 7)))
    assert len(choice.goes()) == length // 2, "every second one is like none that stays"
    assert len(choice.ties()) == length - 1
