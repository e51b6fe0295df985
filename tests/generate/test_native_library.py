"""The compiled library: made once for a processor, and again where it is not what was written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilth.core.environment import processor_facts
from tilth.core.files import new_folder, verify_manifest
from tilth.generate import native


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of its own for what is compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    native._made.cache_clear()
    yield tmp_path / "cache/tilth/kernels"
    native._made.cache_clear()


def made() -> native.Kernels | None:
    native._made.cache_clear()
    return native.kernels()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> Path:
    """A file with a line for each; what was compiled once is copied then, by a command with options, as ccache is."""
    assert made(), native.why_not()
    shutil.copy(next(cache.glob("*/kernels.so")), tmp_path / "made")
    shutil.rmtree(cache)
    (tmp_path / "wrapper").write_text(
        f'[ "$2" = --version ] && exit\necho "$1" >> {tmp_path}/log\nwhile shift; [ "$2" ]; do :; done\n'
        f"cp {tmp_path}/made $1\n"
    )
    monkeypatch.setenv("CXX", f"sh {tmp_path}/wrapper -O2")
    return tmp_path / "log"


def test_what_is_damaged_is_compiled_again(compilations: Path, cache: Path) -> None:
    assert made() and made() and compilations.read_text().splitlines() == ["-O2"]
    (library,) = cache.glob("*/kernels.so")
    whole = library.read_bytes()
    for number, damaged in enumerate((b"", whole[:4096], whole[:-100], bytes(len(whole))), 2):
        library.unlink()  # a file that is mapped is not to be written over
        library.write_bytes(damaged)
        assert made(), native.why_not()
        assert library.read_bytes() == whole and len(compilations.read_text().splitlines()) == number
    assert [*cache.iterdir()] == [library.parent]


def test_what_another_system_made_is_compiled_again(
    compilations: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert made()
    name = next(cache.iterdir()).name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))  # what this process has loaded stays, by its path
    shared = tmp_path / "home/tilth/kernels" / name
    with new_folder(shared) as folder:
        (folder / "kernels.so").write_bytes(b"of another system")
    assert made(), native.why_not()
    assert len(compilations.read_text().splitlines()) == 2
    verify_manifest(shared)


@pytest.mark.parametrize(
    ("named", "told"),
    [("nowhere/g++ -O2", "there is no C++ compiler (nowhere/g++ -O2)"), ("g++ '", "No closing quotation")],
)
def test_a_compiler_that_is_none(named: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", named)
    assert made() is None and told in native.why_not()


def test_what_the_compiler_says_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "kernels.cpp: no such thing" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert made() is None and "no such thing" in native.why_not()
    assert not any(cache.iterdir())


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.parents[1].write_text("a file, not a folder")
    assert made() is None and "is a file, not a folder" in native.why_not()


def test_what_identifies_a_processor(tmp_path: Path) -> None:
    x86 = "processor : {n}\nmodel name : Virtual CPU\nmodel : 85\nflags : {flags}\ncpu MHz : {mhz}\n\n"
    arm = "processor : {n}\nBogoMIPS : {mhz}\nFeatures : fp asimd {flags}\nCPU part : 0xd0c\n\n"
    for text in (x86, arm):
        both = [tmp_path / name for name in ("one", "again", "other")]
        for path, mhz, flags in zip(both, ("1", "2", "1"), ("sse", "sse", "sse avx512vbmi"), strict=True):
            path.write_text("".join(text.format(n=n, mhz=mhz, flags=flags) for n in (0, 1)))
        one, again, other = map(processor_facts, both)
        assert one == again != other and any("sse" in line for line in one)
    assert len(processor_facts(tmp_path / "none")) == 1
