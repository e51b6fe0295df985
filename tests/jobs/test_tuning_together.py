"""Tuning under torchrun: two processes on the loopback see the samples and the losses of one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.forked import both
from tests.jobs.helpers import hashes
from tests.jobs.test_distributed import assert_same
from tilth.checkpoint.tensors import read_tensors

pytestmark = pytest.mark.slow

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": {"rank": 4}, "data": {"cross_document_attention": False}, "train": {}},
    "sft": SFT,
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_do_what_one_does(tmp_path: Path, cli: Cli, kind: str) -> None:
    write_base(tmp_path / "base", "llama")
    sections = KINDS[kind]
    train = {**sections["train"], "steps": 20, "checkpoint": {"every_steps": 8}}
    recipe = tuning(tmp_path, "base", **{**sections, "train": train}, evaluate={"every": 8, "batch_tokens": 64})
    before = hashes(tmp_path / "base")
    alone = cli("train", recipe, "--run", "alone", "--json").json()
    shared = both("train", recipe, "--run", "shared", "--json", cwd=tmp_path).json()
    assert_same(tmp_path / "alone", tmp_path / "shared")
    assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], abs=1e-5)
    name = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    one, two = (read_tensors(tmp_path / run / "final" / name) for run in ("alone", "shared"))
    assert one.keys() == two.keys() and all(abs(one[key] - two[key]).max() < 1e-3 for key in one)
    assert hashes(tmp_path / "base") == before
