"""Sorting and grouping in ranges: against what the same asks for all at once, with ranges of a handful of documents."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.files import new_folder
from tilth.data.duplicates import minhash
from tilth.data.duplicates.dedup import NearConfig, first_of_each
from tilth.data.tasks import corpus as corpus_module
from tilth.data.tasks import dedup, pairs, ranges
from tilth.data.tasks.cleaning import DIGESTS, SIGNATURES
from tilth.data.tasks.corpus import DROPS, Corpus
from tilth.data.tasks.groups import GROUPS, write_groups

KEYS = 3


def corpus_of(folder: Path, documents: Sequence[dict[str, Any]], size: int = 7) -> list[Path]:
    """Parts of `size` documents, as `digests` leaves them."""
    folders = []
    for start in range(0, len(documents), size):
        rows = [
            {"source": "s", "locator": f"c:{n}", "group": None, "part_of": None, "twin": False, "text_bytes": 9} | row
            for n, row in enumerate(documents[start : start + size], start)
        ]
        folders.append(folder / f"digests-{start:04d}")
        with new_folder(folders[-1], {}) as place:
            pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), place / DIGESTS)
    return folders


def _schema() -> pa.Schema:
    from tilth.data.tasks.cleaning import _DIGEST_SCHEMA

    return _DIGEST_SCHEMA


def some(number: int, seed: int) -> list[dict[str, Any]]:
    """Documents of which many have the same text, and many the same length."""
    draw = random.Random(seed)
    texts = [draw.randbytes(16) for _ in range(number // 2)]
    return [
        {"doc_id": draw.randbytes(16).hex(), "digest": draw.choice(texts), "characters": draw.randrange(4)}
        for _ in range(number)
    ]


def preference(documents: Sequence[dict[str, Any]], keep: str) -> list[int]:
    """The definition: the longest first, of equally long ones by digest, then by id; or as they come."""
    numbers = range(len(documents))
    if keep == "first":
        return list(numbers)
    return sorted(numbers, key=lambda n: (-documents[n]["characters"], documents[n]["digest"], documents[n]["doc_id"]))


@pytest.fixture(params=[5, 1 << 21])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Several ranges, and one."""
    rows: int = request.param
    monkeypatch.setattr(ranges, "ROWS", rows)
    monkeypatch.setattr(dedup, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(pairs, "HELD", rows)
    monkeypatch.setattr(pairs, "STRETCH", rows)
    monkeypatch.setattr(corpus_module, "_BATCH_ROWS", 4)
    return rows


@pytest.mark.usefixtures("rows_at_once")
def test_the_first_with_a_text_is_found_over_parts_and_ranges(tmp_path: Path) -> None:
    documents = some(60, 1)
    seen: dict[bytes, int] = {}
    expected = [seen.setdefault(document["digest"], n) for n, document in enumerate(documents)]
    assert ranges.first_by_digest(Corpus(corpus_of(tmp_path, documents))).tolist() == expected
    assert len(seen) < 30


def test_digests_that_share_their_first_half_are_told_apart() -> None:
    digests = np.array([(7, 1), (7, 2), (7, 1), (3, 2), (7, 2)], [("high", "<u8"), ("low", "<u8")])
    assert first_of_each(digests).tolist() == [0, 1, 0, 3, 1]
    assert first_of_each(digests[:0]).tolist() == []


@pytest.mark.usefixtures("rows_at_once")
def test_exact_duplicates_go_with_the_id_of_the_first(tmp_path: Path) -> None:
    documents = some(60, 2)
    digests = corpus_of(tmp_path, documents)
    with new_folder(tmp_path / "exact", {}) as folder:
        facts = dedup.exact(folder, digests)
    first: dict[bytes, str] = {}
    expected = [
        (d["doc_id"], first[d["digest"]])
        for d in documents
        if first.setdefault(d["digest"], d["doc_id"]) != d["doc_id"]
    ]
    ledger = pq.read_table(tmp_path / "exact" / "ledger.parquet").to_pylist()
    assert [(row["doc_id"], row["value"]) for row in ledger] == expected
    assert facts["documents"] == len(expected) and facts["rules"]["dropped"] == {
        "deduplicate/exact_duplicate": len(expected)
    }
    gone = Corpus(digests).gone([tmp_path / "exact"])
    assert [documents[n]["doc_id"] for n in np.flatnonzero(gone)] == [doc_id for doc_id, _ in expected]


def test_documents_are_preferred_as_by_a_sort_in_memory(tmp_path: Path) -> None:
    documents = some(60, 3)
    found = ranges.places(Corpus(corpus_of(tmp_path, documents)), tmp_path)
    order = preference(documents, "longest")
    assert [order[place] for place in found.tolist()] == list(range(60))
    assert not (tmp_path / "sorting.tmp").exists()


@pytest.mark.usefixtures("rows_at_once")
def test_which_text_is_preferred_does_not_depend_on_names_nor_on_their_order(tmp_path: Path) -> None:
    documents = list({document["digest"]: document for document in some(60, 3)}.values())
    renamed = [document | {"doc_id": document["doc_id"][::-1]} for document in documents]
    random.Random(1).shuffle(renamed)
    orders = []
    for name, own in (("first", documents), ("second", renamed)):
        found = ranges.places(Corpus(corpus_of(tmp_path / name, own)), tmp_path)
        orders.append([own[n]["digest"] for n in np.argsort(found).tolist()])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("keep", ["longest", "first"])
def test_candidates_are_those_of_all_bands_at_once(tmp_path: Path, keep: Any, rows_at_once: int) -> None:
    documents, draw = some(90, 4), np.random.default_rng(4)
    # Hashes from all over, a few of them shared by more documents than are all compared with each other.
    pool = np.concatenate([draw.integers(1, 2**63, 9, np.uint64) * np.uint64(2), np.zeros(1, np.uint64)])
    shares = [0.8, *[0.02] * 8, 0.04]
    hashes = draw.choice(pool, (KEYS, 90), p=shares)
    digests, signatures = corpus_of(tmp_path, documents), []
    for number, own in enumerate(np.split(hashes, range(7, 90, 7), axis=1)):
        signatures.append(tmp_path / f"signatures-{number:04d}")
        with new_folder(signatures[-1], {}) as folder:
            own.tofile(folder / SIGNATURES)
    gone = np.arange(0, 90, 11)
    with new_folder(tmp_path / "drops", {}) as folder:
        parts, rows = Corpus(digests).places(gone)
        pq.write_table(pa.table({"part": parts, "row": rows, "kept": gone + 1}), folder / DROPS)
    config = NearConfig(bands=KEYS, cuts=1, keep=keep)
    with new_folder(tmp_path / "candidates", {}) as folder:
        facts = pairs.candidates(folder, digests, signatures, tmp_path / "drops", config)
    read = list(pairs.stretches(tmp_path / "candidates"))
    found = [tuple(pair) for some in read for pair in some.tolist()]
    hashes[:, gone] = 0
    order = np.array(preference(documents, keep))
    expected = {
        (int(order[a]), int(order[b]))
        for own in hashes
        for some in minhash.sharing(own[order])
        for a, b in zip(*some, strict=True)
    }
    place = {number: n for n, number in enumerate(order.tolist())}
    assert found == sorted(expected, key=lambda pair: (place[pair[1]], place[pair[0]])) and len(found) == facts["pairs"]
    seconds = [set(some[:, 1].tolist()) for some in read]
    assert sum(map(len, seconds)) == len(set().union(*seconds)), "pairs of one second document are never parted"
    assert len(found) > 100 and not set(gone.tolist()) & {number for pair in found for number in pair}
    assert (len(read) > 10) == (rows_at_once == 5) and not (tmp_path / "candidates" / "pairs.tmp").exists()


@pytest.mark.slow
def test_groups_join_over_any_number_of_steps_as_in_a_graph(tmp_path: Path) -> None:
    for seed in range(25):
        draw = random.Random(seed)
        documents = some(40, seed)
        for document in documents[1:]:  # some belong to the document that a group is called by, which states none
            document["group"] = draw.choice([None, None, "g", "h", documents[0]["doc_id"]])
        digests = corpus_of(tmp_path / str(seed), documents)
        pairs = [tuple(draw.sample(range(40), 2)) for _ in range(6)]
        copies = draw.sample(range(1, 40), 5)
        gone = {n for n in copies if all(n not in pair for pair in pairs)}  # what is gone is compared with nothing
        dropped = draw.sample(sorted({n for pair in pairs for n in pair}), 2)
        with new_folder(tmp_path / str(seed) / "drops", {}) as folder:
            parts, rows = Corpus(digests).places(np.array(sorted(gone), np.int64))
            pq.write_table(
                pa.table({"part": parts, "row": rows, "kept": np.zeros(len(gone), np.int64)}), folder / DROPS
            )
        write_groups(
            tmp_path,
            Corpus(digests),
            np.array(pairs, np.int64),
            tmp_path / str(seed) / "drops",
            np.array(sorted(dropped), np.int64),
        )
        names = [f"s/{document.get('group') or document['doc_id']}" for document in documents]
        graph = networkx.Graph([*((names[a], names[b]) for a, b in pairs), *((names[n], names[0]) for n in gone)])
        graph.add_nodes_from(names)
        expected = {}
        for together in networkx.connected_components(graph):
            staying = [n for n in range(40) if names[n] in together and n not in gone and n not in dropped]
            if len({names[n] for n in staying}) > 1:
                expected |= dict.fromkeys(staying, min(names[n] for n in staying))
        table = pq.read_table(tmp_path / GROUPS).to_pylist()
        assert {row["part"] * 7 + row["row"]: row["group"] for row in table} == expected
    assert expected


def test_a_pair_that_is_just_as_similar_as_asked_is_compared() -> None:
    sets = object.__new__(pairs.Sets)
    sets._hashes = [np.arange(155, dtype=np.uint64) % np.uint64(100)]
    sets._starts, sets._sizes, sets._parts = np.array([0, 100]), np.array([100, 55]), np.zeros(2, np.int64)
    assert 0.55 * 100 > 55 and sets.compare(np.array([[0, 1]]), 0.55).tolist() == [0.55]
