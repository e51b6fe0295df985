"""Going on with what was tuned: another adapter, base, template or packing is refused with what differs; the best
weights of an adapter become its final ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.helpers import hashes
from tilth.checkpoint.tensors import read_tensors, write_tensors
from tilth.core.files import read_manifest

pytestmark = pytest.mark.slow

ANSWERS = {**SFT, "adapter": {"rank": 4}, "train": {**SFT["train"], "steps": 6, "checkpoint": {"every_steps": 2}}}


@pytest.fixture
def tuned(tmp_path: Path, cli: Cli) -> Path:
    """A folder with base/, r.yaml and runs/tuned, six steps of answers beside an adapter."""
    write_base(tmp_path / "base", "llama")
    tuning(tmp_path, "base", **ANSWERS)
    cli("train", "r.yaml", "--json").json()
    return tmp_path


def test_what_decides_the_weights_cannot_change(tuned: Path, cli: Cli) -> None:
    before = hashes(tuned / "runs")
    write_base(tuned / "other", "llama")
    more = "train.steps=8"
    for change, said in (
        ("adapter.rank=8", "adapter.rank: 4 -> 8"),
        ("adapter.dropout=0.1", "adapter.dropout: 0 -> 0.1"),
        ("adapter=null", "adapter"),
        ("model.from=other", "model.from: 'base' -> 'other'"),
        ("data.packing.too_long=split", "data.packing.too_long: 'drop' -> 'split'"),
        ("data.chat.train_on=all", "data.chat.train_on: 'answers' -> 'all'"),
        ("train.freeze=[norm]", "train.freeze"),
    ):
        cli("train", "r.yaml", sets=[more, change]).expect_fault(2, "made by another recipe", said)
    assert hashes(tuned / "runs") == before


def test_other_weights_under_the_name_of_the_base_are_refused(tuned: Path, cli: Cli) -> None:
    weights = tuned / "base" / "model.safetensors"
    tensors = read_tensors(weights)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.5
    write_tensors(tuned / "new", tensors)  # the old file is still mapped
    (tuned / "new").replace(weights)
    said = cli("train", "r.yaml", sets=["train.steps=8"]).expect_fault(4, "was trained beside other base weights")
    assert "step-00000006" in said
    cli("generate", "runs/tuned", "--prompt", "x").expect_fault(4, "was trained beside other base weights", "final")


def test_the_best_weights_of_an_adapter(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "llama")
    # What is held out is of other letters: the more is learned, the less of it is expected.
    (tmp_path / "odd.txt").write_text("abba abab baab " * 600 + "xyzzy zyx yzz " * 60)
    data = {"sources": [{"path": "odd.txt"}], "split": {"validation": 0.08, "by": "tail"}, "clean": "none"}
    rate = {"optimizer": {"name": "adamw", "lr": 0.03}, "schedule": {"name": "constant", "warmup_steps": 0}}
    train = {"steps": 3, "final": "best", "seed": 0, **rate}
    recipe = tuning(tmp_path, "base", data=data, adapter={"rank": 4}, train=train, evaluate={"every": 1})
    result = cli("train", recipe, "--json").json()
    run = tmp_path / "runs" / "tuned"
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    facts = read_manifest(run / "final")
    assert (facts["weights"], facts["step"]) == ("best", best["step"]) and best["step"] < result["step"] == 3
    final = read_tensors(run / "final" / "adapter_model.safetensors")
    kept = read_tensors(run / "checkpoints" / f"step-{best['step']:08d}" / "model.safetensors")
    assert len(final) == len(kept) and sorted(map(_sum, final.values())) == sorted(map(_sum, kept.values()))


def _sum(tensor: torch.Tensor) -> float:
    return float(tensor.double().sum())
