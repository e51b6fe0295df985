"""Shards give back what was written, and nothing else unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import make_stream, write_documents
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import write_manifest
from tilth.data.shards import Shard, token_dtype


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
