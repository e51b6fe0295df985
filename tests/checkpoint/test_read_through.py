"""Weights that are read through once, and again when their files are others."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tilth.checkpoint import read_through as module
from tilth.checkpoint.read_through import read_through
from tilth.checkpoint.safetensors_files import Stored, open_folder
from tilth.core.errors import CheckpointError

TENSORS = {
    "a": torch.ones(3, 5),
    "b": torch.ones(2, dtype=torch.bfloat16),
    "scale": torch.tensor(2.0),
    "none": torch.empty(0, 4),
    "ids": torch.arange(4),
}


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of tensors that were read, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names, pieces = list[str](), Stored.pieces

    def counted(self: Stored, *arguments: Any) -> Iterator[Any]:
        names.append(self.name)
        yield from pieces(self, *arguments)

    monkeypatch.setattr(Stored, "pieces", counted)
    return names


def write(folder: Path, **changes: torch.Tensor) -> list[Stored]:
    folder.mkdir(exist_ok=True)
    save_file({**TENSORS, **changes}, folder / "model.safetensors")
    return list(open_folder(folder).values())


def test_what_was_good_is_not_read_again_while_the_file_is_the_same(tmp_path: Path, reads: list[str]) -> None:
    tensors = write(tmp_path / "base")
    read_through(tensors)
    assert sorted(reads) == ["a", "b", "scale"]
    read_through(tensors)
    assert len(reads) == 3
    os.utime(tmp_path / "base" / "model.safetensors", ns=(1, 1))
    read_through(tensors)
    assert len(reads) == 6
    read_through([tensor for tensor in tensors if tensor.name == "a"])
    assert len(reads) == 7, "other tensors of the same file were asked for"


@pytest.mark.parametrize("name", ["a", "b", "scale"])
def test_what_is_no_number_is_told_each_time(tmp_path: Path, reads: list[str], name: str) -> None:
    bad = write(tmp_path / "base", **{name: torch.full_like(TENSORS[name], math.nan)})
    for _ in range(2):
        with pytest.raises(CheckpointError, match=rf"model.safetensors: {name} holds what is no finite number"):
            read_through(bad)
    assert reads.count(name) == 2
    read_through(write(tmp_path / "base"))


def test_large_ones_are_told(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, said = write(tmp_path / "base"), list[str]()
    read_through(tensors, said.append)
    assert not said and reads
    monkeypatch.setattr(module, "LARGE", 1)
    os.utime(tmp_path / "base" / "model.safetensors", ns=(1, 1))
    read_through(tensors, said.append)
    assert len(said) == 1 and "read through once" in said[0]


@pytest.mark.parametrize("name", ["file", "n" * 300])  # no folder can be there; it cannot even be looked for
def test_where_nothing_can_be_kept_they_are_read_each_time(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    tensors = write(tmp_path / "base")
    read_through(tensors)
    read_through(tensors)
    assert len(reads) == 6
