"""Footprints that are kept: the figures of those that were made, and never those of anything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tilth.training import known as module
from tilth.training.footprint import Footprint
from tilth.training.known import known
from tilth.training.meter import Give, Kind, Take

Make = Callable[[], Footprint]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tilth" / "footprints"


@pytest.fixture
def made() -> list[int]:
    return []


@pytest.fixture
def make(made: list[int]) -> Make:
    def make() -> Footprint:
        made.append(1)
        product, update = Kind("product", "float32", 200, 40), Kind("update", "float32", 0, 64)
        step = [Take(1, 100, "activations"), Take(2, 28, "loss"), Give(1)]
        return Footprint([Take(0, 1000, "weights")], step, [], Counter({product: 3}), Counter({update: 1}), keeps=True)

    return make


def test_what_was_made_is_kept_and_is_the_same(folder: Path, make: Make, made: list[int]) -> None:
    first, second = known({"rows": 1}, make), known({"rows": 1}, make)
    assert len(made) == 1 and first.fresh and not second.fresh
    assert (first.peaks["step"], first.micro, first.update) == (second.peaks["step"], second.micro, second.update)
    assert (
        first.peaks["step"].parts == {"weights": 1000, "activations": 100, "loss": 28}
        and first.peaks["step"].total == 1128
    )
    known({"rows": 2}, make)
    assert len(made) == 2 and len(list(folder.iterdir())) == 2


def test_other_code_is_other_figures(
    folder: Path, make: Make, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known({}, make)
    monkeypatch.setattr(module, "_code", lambda: "of tomorrow")
    assert known({}, make).fresh and len(made) == 2


@pytest.mark.parametrize("damage", ["", "{}", "no JSON", "cut", "flipped"])
def test_a_damaged_file_is_made_anew(folder: Path, make: Make, made: list[int], damage: str) -> None:
    known({}, make)
    (file,) = folder.iterdir()
    text = file.read_text()
    file.write_text({"cut": text[:-20], "flipped": text.replace("1000", "1001")}.get(damage, damage))
    assert known({}, make).fresh and not known({}, make).fresh and len(made) == 2


def test_where_nothing_can_be_kept_it_is_made_each_time(folder: Path, make: Make, made: list[int]) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    assert known({}, make).fresh and known({}, make).fresh and len(made) == 2


def test_the_oldest_go_where_there_are_many(folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 4)
    for rows in range(5):
        known({"rows": rows}, make)
    assert len(list(folder.iterdir())) == 3, "two of four went before the fifth came"
    assert not known({"rows": 4}, make).fresh


def test_the_code_that_decides_footprints_is_where_it_is_looked_for() -> None:
    package = Path(module.__file__).parents[1]
    assert all((package / name).is_file() for name in module._FILES)
    assert all([*(package / name).rglob("*.py")] for name in module._FOLDERS)
