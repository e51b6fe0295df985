"""A disk that takes no more: an error that says so, nothing lost, and the same command goes on when there is room."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, hashes, write_recipe, write_texts
from tilth.core.rundir import RunFolder

pytestmark = pytest.mark.slow

PYTHON = sys.executable


def limited(size: int) -> Any:
    """In a child: no file may grow beyond `size` bytes (EFBIG, which stands for a disk that takes no more)."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def tilth_limited(size: int, *words: str | Path, cli: Cli) -> Said:
    """The command in this process, which the limit holds for meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return cli(*words, sets=SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, cli: Cli) -> None:
    for path in write_texts(tmp_path / "texts").iterdir():
        os.utime(path, (10**9, 10**9))  # old enough for its hash to be remembered the first time, and not noted again
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 40, "checkpoint": {"every_steps": 10, "keep": 9}})
    whole = cli("train", "r.yaml", "--run", "whole", "--workspace", "whole-work", "--json", sets=SMALL).json()
    tilth_limited(20_000, "prepare", "r.yaml", cli=cli).expect_fault(3, "cannot write", "was finished is kept")
    assert not list((tmp_path / "work").rglob("*.tmp"))
    cli("prepare", "r.yaml", sets=SMALL)
    assert hashes(tmp_path / "work" / "datasets") == hashes(tmp_path / "whole-work" / "datasets")
    # Room for the records of some steps, and not for a checkpoint; then for checkpoints, and not for all records.
    tilth_limited(3_000, "train", "r.yaml", cli=cli).expect_fault(3, "cannot write", "was finished is kept")
    said = tilth_limited(9_000, "train", "r.yaml", cli=cli)
    said.expect_fault(4, "could not save step 10", "cannot write")
    records = tmp_path / "runs" / "small" / "steps.jsonl"
    assert records.stat().st_size <= 9_000
    ended = cli("train", "r.yaml", "--json", sets=SMALL).json()
    assert ended["train_loss"] == whole["train_loss"]
    assert hashes(tmp_path / "runs" / "small" / "final") == hashes(tmp_path / "whole" / "final")
    assert [record.step for record in RunFolder(tmp_path / "runs" / "small").steps()] == list(range(1, 41))


def test_a_record_for_which_there_is_room_in_part_is_a_fault(tmp_path: Path) -> None:
    code = "from pathlib import Path; from tilth.core.files import disk; disk.append(Path('records'), b'x' * 20)"
    words = [PYTHON, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, preexec_fn=limited(10), capture_output=True, text=True)
    assert "File too large" in done.stderr, "the system takes ten bytes and says nothing"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", place]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    gc.collect()  # the commands ran in this process: what they mapped into memory may hang in a cycle
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 30, "checkpoint": {"every_steps": 5, "keep": 20}})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    said = cli("prepare", "r.yaml", "--workspace", "disk/work", sets=SMALL)
    said.expect_fault(3, "cannot write", "the disk is full (")
    ballast.unlink()
    cli("prepare", "r.yaml", sets=SMALL)
    said = cli("train", "r.yaml", "--run", "disk/run", sets=SMALL)
    said.expect_fault(4, "could not save step", "the disk is full (", "type the same command")
    kept = sorted(path.name for path in (small_disk / "run" / "checkpoints").iterdir())
    assert kept and all(name.startswith(("step-", "best")) for name in kept), "no half of a checkpoint takes up room"
    whole = cli("train", "r.yaml", "--run", "whole", "--json", sets=SMALL).json()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    ended = cli("train", "r.yaml", "--run", "disk/run", "--json", sets=SMALL)
    assert "going on after step" in ended.err and ended.json()["train_loss"] == whole["train_loss"]
