"""What a run ends with: the weights that were asked for, or others and why; written once, and left as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes, write_recipe, write_texts
from tilth.checkpoint.store import Checkpoint
from tilth.evaluation.metrics import Metrics
from tilth.jobs import parts
from tilth.jobs.forecasting import micro_rows

pytestmark = pytest.mark.slow

BEST = [*SMALL, "train.final=best"]


@pytest.fixture
def best_is_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose run is at its best at step 4 of 12, as its evaluations have it."""
    write_texts(tmp_path / "texts", documents=20)
    checkpoint = {"every_steps": 4, "keep": 2}
    write_recipe(tmp_path / "r.yaml", "texts", train={"checkpoint": checkpoint}, evaluate={"every": 4})
    losses = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(parts, "evaluate", lambda *_: Metrics(next(losses), 9.0, 2.0, 0.5, 100))
    return tmp_path / "runs" / "small"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first)


def result_of(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    return result


def test_the_best_weights_where_they_are_asked_for(best_is_4: Path, cli: Cli) -> None:
    assert cli("train", "r.yaml", "--json", sets=BEST).json()["validation_loss"] == 1.0
    assert same_weights(best_is_4 / "final", best_is_4 / "checkpoints" / "step-00000004")
    assert result_of(best_is_4)["weights"] == {"kind": "best", "step": 4}


@pytest.mark.parametrize("damage", ["altered", "gone", "mark altered"])
def test_a_best_checkpoint_that_is_damaged_does_not_lose_the_run(best_is_4: Path, cli: Cli, damage: str) -> None:
    assert cli("train", "r.yaml", sets=BEST).code == 0
    shutil.rmtree(best_is_4 / "final")
    best = best_is_4 / "checkpoints" / "step-00000004"
    if damage == "gone":
        shutil.rmtree(best)
    elif damage == "altered":
        best.joinpath("state.json").write_text("{}")
    else:  # the mark says less than the run knows: it is made again
        (best_is_4 / "checkpoints" / "best.json").write_text("{}")
    said = cli("train", "r.yaml", "--json", sets=BEST)
    kind, step, loss = ("best", 4, 1.0) if damage == "mark altered" else ("last", 12, 3.0)
    assert said.json()["validation_loss"] == loss
    assert same_weights(best_is_4 / "final", best_is_4 / "checkpoints" / f"step-{step:08d}")
    assert result_of(best_is_4)["weights"] == {"kind": kind, "step": step}
    told = (
        "warning: train.final is best, but " in said.err and "the last weights, of step 12, become final/" in said.err
    )
    assert told == (kind == "last")
    assert ("step-00000004" in said.err) == (damage == "altered")


def test_a_best_that_was_not_kept_is_not_marked_and_not_promised(best_is_4: Path, cli: Cli) -> None:
    checkpoints = best_is_4 / "checkpoints"
    assert cli("train", "r.yaml", sets=[*SMALL, "train.checkpoint.best=false"]).code == 0
    assert not (checkpoints / "step-00000004").exists() and not (checkpoints / "best.json").exists()
    said = cli("train", "r.yaml", "--json", sets=BEST)
    assert "the checkpoint of the best step, 4, was not kept" in said.err
    assert said.json()["validation_loss"] == 3.0 and result_of(best_is_4)["weights"] == {"kind": "last", "step": 12}
    assert not (checkpoints / "best.json").exists()
    cli("generate", "runs/small", "--checkpoint", "best").expect_fault(4, "no best checkpoint")


def stamps(run: Path) -> dict[str, tuple[int, int]]:
    """Which file stands where, written when: of final model, result and report."""
    files = [*(run / "final").iterdir(), run / "result.json", run / "report.html"]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


WHOLE = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
ENDED = {"result.json", "report.html"}


@pytest.mark.parametrize(
    ("change", "written"),
    [
        (lambda run: None, set()),
        (lambda run: shutil.rmtree(run / "final"), WHOLE | ENDED),
        (lambda run: (run / "final" / "config.json").write_text("{}"), WHOLE | ENDED),
        (lambda run: (run / "report.html").unlink(), ENDED),
        (lambda run: (run / "result.json").write_text("[]"), ENDED),
    ],
)
def test_what_still_holds_is_left_alone(
    trained: Path, cli: Cli, change: Callable[[Path], Any], written: set[str]
) -> None:
    run = trained / "runs" / "small"
    before, content = stamps(run), hashes(run / "final")
    change(run)
    assert cli("train", "r.yaml", "--json", sets=SMALL).json()["step"] == 12
    after = stamps(run)
    assert {name for name in before if after[name] != before[name]} == written
    assert hashes(run / "final") == content


def test_another_wish_or_another_end_is_another_final_model(trained: Path, cli: Cli) -> None:
    run = trained / "runs" / "small"
    before = stamps(run)
    assert cli("train", "r.yaml", sets=BEST).code == 0
    assert stamps(run)["manifest.json"] != before["manifest.json"]
    assert cli("train", "r.yaml", sets=[*SMALL, "train.steps=14"]).code == 0
    assert same_weights(run / "final", run / "checkpoints" / "step-00000014")


@pytest.mark.parametrize("piece", ["micro_rows", "precision", "identity", "nothing"])
def test_a_run_goes_on_with_what_its_checkpoint_says(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    """Negative controls of what the job takes from a checkpoint: another value there, and the end is another."""
    sets = [*SMALL[:3], "tokenizer={kind: byte}", "model.dropout=0.3"]  # precision and rows are measured
    monkeypatch.setattr(micro_rows, "resolve_precision", lambda *_: "fp32")
    assert cli("train", "r.yaml", "--run", "whole", sets=sets).code == 0
    shutil.copytree(trained / "whole", trained / "again")
    for path in [*(trained / "again" / "checkpoints").glob("step-*"), trained / "again" / "final"]:
        if path.name != "step-00000004":
            shutil.rmtree(path)
    (trained / "again" / "decisions.json").unlink()  # whatever would be measured now
    state = Checkpoint.state
    other = {"micro_rows": 3, "precision": "bf16", "identity": {"environment": {}, "world_size": 1}}
    monkeypatch.setattr(
        Checkpoint, "state", lambda self: {**state(self), **({piece: other[piece]} if piece in other else {})}
    )
    monkeypatch.setattr(micro_rows, "resolve_precision", lambda *_: "bf16")
    said = cli("train", "r.yaml", "--run", "again", sets=sets)
    assert said.code == 0 and "going on after step 4" in said.err, said.err
    same = same_weights(trained / "again" / "final", trained / "whole" / "final")
    assert same == (piece in ("identity", "nothing"))
    assert ("the same bits as a run that was not stopped" in said.err) == (piece != "identity")
