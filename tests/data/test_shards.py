"""Shards give back what was written, and nothing else unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.helpers import make_stream, write_documents
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import write_manifest
from tilth.data.shards import Shard, TokenStream, encoded_document, token_dtype, write_shard


@pytest.mark.parametrize(("vocab_size", "dtype"), [(256, "<u2"), (65_535, "<u2"), (65_536, "<u4"), (200_000, "<u4")])
def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size) == np.dtype(dtype)
    shard = write_documents(tmp_path / "s", [3, 2], vocab_size, first=vocab_size - 3)
    assert shard.read(0, 5).tolist() == [vocab_size - 3, vocab_size - 2, vocab_size - 1, 0, 1]
    assert (tmp_path / "s" / "tokens.bin").stat().st_size == 5 * np.dtype(dtype).itemsize
    assert shard.offsets.tolist() == [0, 3, 5]
    assert shard.doc_id(1) == f"{vocab_size - 2:032x}"


def test_the_stream_is_a_ring_over_all_shards(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, [[4, 3], [], [5]])
    assert stream.tokens == 12 and stream.documents == 3 and stream.text_bytes == 12
    assert stream.read(5, 4).tolist() == [5, 6, 7, 8]
    assert stream.read(-2, 5).tolist() == [10, 11, 0, 1, 2]
    assert stream.read(10, 28).tolist() == [n % 12 for n in range(10, 38)]
    assert stream.document_numbers(0, 14).tolist() == [0] * 4 + [1] * 3 + [2] * 5 + [3] * 2


def test_every_flipped_byte_of_a_shard_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_documents(folder, [4, 3])
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            with pytest.raises(IntegrityError) as caught:
                shard = Shard(folder)
                shard.read(0, 7), shard.offsets, shard.doc_id(0)
            assert path.name in str(caught.value)
        path.write_bytes(whole)
    assert Shard(folder).read(0, 7).tolist() == list(range(7))


def test_a_truncated_shard_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_documents(folder, [4, 3])
    path = folder / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(IntegrityError, match=r"tokens\.bin is 12 bytes; its manifest says 14"):
        Shard(folder)


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_documents(folder, [4])
    facts = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {**{k: v for k, v in facts.items() if k not in ("files", "seal")}, "format_version": 9})
    with pytest.raises(DataError, match="shard format 9"):
        Shard(folder)


Marks = list[list[bool]]


def marked_shard(folder: Path, documents: Marks, *, marked: bool = True) -> Shard:
    """Documents with these marks, or of these lengths."""
    encoded = [
        encoded_document(
            f"{n:032x}", np.arange(len(own), dtype=np.uint32), 1, np.array(own, np.bool_) if marked else None
        )
        for n, own in enumerate(documents)
    ]
    write_shard(folder, encoded, 1000, "tokenizer")
    return Shard(folder)


def test_a_shard_without_marks_is_as_it_always_was(tmp_path: Path) -> None:
    shard = marked_shard(tmp_path / "s", [[True, False], [False]], marked=False)
    assert {path.name for path in shard.folder.iterdir()} == {
        "tokens.bin",
        "offsets.bin",
        "doc_ids.bin",
        "manifest.json",
    }
    assert "trained_tokens" not in shard.manifest and not shard.has_mask
    assert TokenStream([shard]).trained(np.arange(3)).all()


def test_marks_are_sealed_like_the_rest(tmp_path: Path) -> None:
    shard = marked_shard(tmp_path / "s", [[True, False, False], [True]])
    assert shard.has_mask and shard.mask().tolist() == [1, 0, 0, 1] and shard.manifest["trained_tokens"] == 2
    path = shard.folder / "mask.bin"
    path.write_bytes(bytes([1, 1, 0, 1]))
    assert Shard(shard.folder).read(0, 4).tolist() == [0, 1, 2, 0], "the tokens are still theirs"
    with pytest.raises(IntegrityError, match=r"mask\.bin"):
        TokenStream([Shard(shard.folder)]).trained(np.arange(4))
    path.write_bytes(bytes([1, 0, 0]))
    with pytest.raises(IntegrityError, match=r"mask\.bin is 3 bytes; its manifest says 4"):
        Shard(shard.folder)


def test_one_document_with_marks_gives_all_of_its_shard_some(tmp_path: Path) -> None:
    documents = [
        encoded_document(f"{1:032x}", np.arange(2, dtype=np.uint32), 1),
        encoded_document(f"{2:032x}", np.arange(2, dtype=np.uint32), 1, np.zeros(2, np.bool_)),
    ]
    write_shard(tmp_path / "s", documents, 1000, "tokenizer")
    assert Shard(tmp_path / "s").mask().tolist() == [1, 1, 0, 0]


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.lists(st.booleans(), min_size=1, max_size=6), max_size=5)), min_size=1
    )
)
def test_marks_are_read_at_any_places_and_counted_by_stretches(
    tmp_path_factory: pytest.TempPathFactory, shards: list[tuple[bool, Marks]]
) -> None:
    folder = tmp_path_factory.mktemp("marks")
    made = [marked_shard(folder / str(n), own, marked=marked) for n, (marked, own) in enumerate(shards)]
    marks = np.array([mark or not marked for marked, own in shards for document in own for mark in document], np.bool_)
    stream = TokenStream(made)
    if not stream.tokens:
        return
    places = np.random.default_rng(0).integers(-5, 3 * len(marks), (4, 7))
    assert np.array_equal(stream.trained(places), marks[places % len(marks)])
    assert np.array_equal(stream.take(places), [[int(stream.read(int(p), 1)[0]) for p in row] for row in places])
    starts = stream.document_starts()
    stops = np.append(starts[1:], stream.tokens)
    counts = stream.count_trained(starts, stops)
    assert counts.tolist() == [int(marks[a:b].sum()) for a, b in zip(starts, stops, strict=True)]
    inner = stops - starts > 2
    counts = stream.count_trained(starts[inner] + 1, stops[inner] - 1)
    assert counts.tolist() == [
        int(marks[a + 1 : b - 1].sum()) for a, b in zip(starts[inner], stops[inner], strict=True)
    ]
