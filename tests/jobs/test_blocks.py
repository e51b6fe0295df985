"""`train.compile`: the same losses, the same bits after a kill, what `auto` decides and keeps, and what is refused."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.forked import Forked, forked
from tests.jobs.helpers import SMALL, hashes
from tilth.core.errors import RecipeError
from tilth.jobs import blocks
from tilth.model.transformer import Transformer
from tilth.training.probe import Trial

pytestmark = pytest.mark.slow

SETS = [*SMALL, "model.dropout=0.2", "train.micro_batch=6"]  # 16 rows: the last four are another shape
COMPILED = [*SETS, "train.compile=true"]
BESIDE = [
    "model={from: runs/small/final, context_length: 16, dropout: 0.1}",
    "adapter={rank: 2, dropout: 0.1}",
    "train.batch_tokens=256",
    "train.precision=fp32",
    "train.micro_batch=6",
]
AUTO = [*SETS, "train.compile=auto"]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "steps.jsonl").read_text().splitlines()]


def said(run: Path) -> list[str]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [event["text"] for event in events if "compiled blocks" in event.get("text", "")]


def state(run: Path, step: int) -> Any:
    return json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())


@pytest.mark.parametrize("sets", [SETS, BESIDE], ids=["whole", "adapter"])
def test_the_same_losses_and_after_kill_9_the_same_bits(trained: Path, cli: Cli, sets: list[str]) -> None:
    sets = [*sets, "train.steps=20", "train.checkpoint.every_steps=7"]
    assert cli("train", "r.yaml", "--run", "plain", sets=sets).code == 0
    sets = [*sets, "train.compile=true"]
    assert cli("train", "r.yaml", "--run", "whole", sets=sets).code == 0
    assert said(trained / "whole")[0].startswith("compiled blocks: yes (ready in ")
    plain, compiled = losses(trained / "plain"), losses(trained / "whole")
    assert plain == pytest.approx(compiled, abs=1e-5) and plain != compiled
    process = Forked("train", "r.yaml", "--run", "killed", cwd=trained, sets=sets)
    records = trained / "killed" / "steps.jsonl"
    while not (records.exists() and records.read_text().count("\n") > 9):
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (trained / "killed" / "final").exists()
    ended = cli("train", "r.yaml", "--run", "killed", sets=sets)
    assert ended.code == 0 and "the same bits" in ended.err
    assert hashes(trained / "killed" / "final") == hashes(trained / "whole" / "final")
    assert state(trained / "killed", 20)["compile"] is True
    assert "version" in state(trained / "killed", 20)["identity"]["environment"]["compiler"]


@pytest.mark.parametrize(("faster", "decided"), [(1.2, True), (1.02, False)])
def test_auto_compiles_where_a_trial_is_faster_and_keeps_that(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, faster: float, decided: bool
) -> None:
    passed = Trial.seconds
    tried: list[bool] = []

    def seconds(self: Trial, rows: int) -> float:
        assert passed(self, rows) > 0 and isinstance(self.model, Transformer)
        tried.append(hasattr(self.model.layers[0].forward, "plain"))
        return 1.0 if tried[-1] else faster

    monkeypatch.setattr(Trial, "seconds", seconds)
    monkeypatch.setattr(blocks, "LONG", 10)
    monkeypatch.setattr(blocks, "PASSES", 10)
    assert cli("train", "r.yaml", "--run", "auto", sets=AUTO).code == 0
    (line,) = said(trained / "auto")
    assert line.startswith(f"compiled blocks: {'yes' if decided else 'no'}, 1 s a pass, and {faster} s without")
    assert set(tried) == {False, True} and state(trained / "auto", 12)["compile"] is decided
    monkeypatch.setattr(blocks, "_pays", None)  # it is not asked again
    assert cli("train", "r.yaml", "--run", "auto", sets=[*AUTO, "train.steps=14"]).code == 0
    assert "as it was decided when the run began" in said(trained / "auto")[-1]
    assert state(trained / "auto", 14)["compile"] is decided


@pytest.mark.parametrize("asked", ["true", "auto"])
def test_sliding_windows_in_long_rows(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(blocks, "LONG", 0)
    monkeypatch.setattr(blocks, "PASSES", 0)
    monkeypatch.setattr(blocks, "FASTER", 0)
    sets = ["model.context_length=512", "model.sliding_window=100", "train.batch_tokens=1024", "train.micro_batch=2"]
    sets = [*SMALL, *sets, "train.steps=3"]
    assert cli("check", "r.yaml", sets=[*sets, f"train.compile={asked}"]).code == 0
    assert cli("train", "r.yaml", "--run", asked, sets=[*sets, f"train.compile={asked}"]).code == 0
    assert said(trained / asked)[0].startswith("compiled blocks: yes")
    assert cli("train", "r.yaml", "--run", "plain", sets=sets).code == 0
    assert losses(trained / asked) == pytest.approx(losses(trained / "plain"), abs=1e-5)


def test_auto_does_not_try_where_the_run_is_short_and_stays_plain_without_a_compiler(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", "r.yaml", "--run", "plain", sets=SETS).code == 0
    monkeypatch.setattr(blocks, "LONG", 1e9)
    assert cli("train", "r.yaml", "--run", "short", sets=AUTO).code == 0
    assert re.fullmatch(r"compiled blocks: no, the steps take some \d+ s in all", said(trained / "short")[0])

    def fails(*_: object) -> None:
        raise RecipeError("the layers could not be compiled: no g++", "install it")

    monkeypatch.setattr(blocks, "LONG", 0)
    monkeypatch.setattr(blocks, "PASSES", 0)
    monkeypatch.setattr(blocks, "compile_layers", fails)
    assert cli("train", "r.yaml", "--run", "without", sets=AUTO).code == 0
    assert "no, the layers could not be compiled: no g++" in said(trained / "without")[0]
    final = [hashes(trained / run / "final")["model.safetensors"] for run in ("plain", "short", "without")]
    assert final[0] == final[1] == final[2] and not said(trained / "plain")


def test_what_cannot_be_compiled_is_refused_with_a_remedy(trained: Path, cli: Cli) -> None:
    base = ["model={from: runs/small/final, context_length: 16}", "adapter={rank: 2, dora: true}", "train.compile=true"]
    apart = [*COMPILED, "model.context_length=512", "train.batch_tokens=1024", "data.cross_document_attention=false"]
    for sets, reason in ((base, "DoRA"), (apart, "more than 256 tokens")):
        found, plain, auto = (
            json.loads(cli("check", "r.yaml", "--json", sets=[*sets, f"train.compile={asked}"]).out.splitlines()[-1])
            for asked in ("true", "false", "auto")
        )
        assert [fault["rule"] for fault in found["errors"]] == ["compile"] and reason in found["errors"][0]["message"]
        memories = {one["forecast"]["run"]["memory"] for one in (found, plain, auto)}
        assert plain["ok"] and auto["ok"] and len(memories) == 1, "of plain layers, whose compiler is not loaded"
        cli("train", "r.yaml", "--run", "a", sets=sets).expect_fault(
            2, "train.compile is true", reason, "train.compile: false"
        )
        assert not (trained / "a").exists()
    nothing = str(trained / "nothing")
    without = {"CXX": "/no/such/g++", "TORCHINDUCTOR_CACHE_DIR": nothing}
    ended = forked("train", "r.yaml", "--run", "c", cwd=trained, sets=COMPILED, **without)
    assert (
        ended.returncode == 2 and "could not be compiled" in ended.stderr and "install a C++ compiler" in ended.stderr
    )
