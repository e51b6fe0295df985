"""Under torchrun, two processes on the loopback: the same samples and the same losses as one process alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.helpers import SMALL, environment, last_json, tilth, write_recipe, write_texts

pytestmark = pytest.mark.slow

TIMED = ("seconds", "data_wait_seconds", "tokens_per_second", "memory_bytes")


def torchrun(*words: str | Path, sets: list[str], processes: int = 2) -> list[str]:
    options = [part for value in sets for part in ("--set", value)]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    # Without the two dashes torchrun takes tilth's --run for a beginning of its own --run-path.
    return [*run, "-m", "--", "tilth", *map(str, words), *options]


def together(*words: str | Path, cwd: Path, sets: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        torchrun(*words, sets=sets), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300
    )


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


def assert_same(alone: Path, shared: Path) -> None:
    """Equal samples and learning rates, and losses equal to rounding, at every step."""
    for one, two in zip(steps_of(alone), steps_of(shared), strict=True):
        for key in ("loss", "grad_norm"):
            assert two.pop(key) == pytest.approx(one.pop(key), abs=1e-5, rel=1e-5), one["step"]
        assert one == two


def small(folder: Path, **train: Any) -> Path:
    write_texts(folder / "texts", documents=60)
    train = {"steps": 30, "micro_batch": 4, "optimizer": {"lr": 3e-3}, **train}
    return write_recipe(folder / "r.yaml", "texts", train=train, evaluate={"every": 10, "batch_tokens": 64})


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    sets = [*SMALL, "data.cross_document_attention=false"]
    recipe = small(tmp_path)
    alone = last_json(tilth("train", recipe, "--run", "alone", "--json", cwd=tmp_path, sets=sets))
    done = together("train", recipe, "--run", "shared", "--workspace", "other", "--json", cwd=tmp_path, sets=sets)
    shared = last_json(done)
    assert_same(tmp_path / "alone", tmp_path / "shared")
    assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], abs=1e-5)
    assert {k: shared[k] for k in ("step", "tokens", "stopped_by")} == {
        k: alone[k] for k in ("step", "tokens", "stopped_by")
    }
    assert done.stdout.count('{"run"') == 1 and done.stderr.count("step 30  validation") == 1, "one process speaks"
    events = [json.loads(line) for line in (tmp_path / "shared" / "events.jsonl").read_text().splitlines()]
    assert sum(event["kind"] == "evaluation" for event in events) == 3


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    done = together("train", recipe, cwd=tmp_path, sets=[*SMALL, "train.batch_tokens=240"])
    assert done.returncode != 0
    assert "train.batch_tokens gives 15 rows, which 2 processes cannot share" in done.stderr
    assert "make train.batch_tokens a multiple of 32" in done.stderr
    assert "exitcode  : 2" in done.stderr or "exitcode: 2" in done.stderr
    assert not (tmp_path / "runs" / "small" / "recipe.json").exists()
    assert together("train", recipe, cwd=tmp_path, sets=[*SMALL, "train.steps=2"]).returncode == 0


def test_killed_under_torchrun_it_goes_on(tmp_path: Path) -> None:
    recipe = small(tmp_path, steps=200, checkpoint={"every_steps": 7})
    alone = last_json(tilth("train", recipe, "--run", "alone", "--json", cwd=tmp_path, sets=SMALL))
    process = subprocess.Popen(
        torchrun("train", recipe, "--run", "shared", sets=SMALL),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = tmp_path / "shared" / "steps.jsonl"
    while not (records.exists() and records.read_text().count("\n") > 20):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(int((tmp_path / "shared" / ".lock").read_text()), signal.SIGKILL)  # process 0, which writes
    assert process.wait(timeout=60) != 0
    done = together("train", recipe, "--run", "shared", "--json", cwd=tmp_path, sets=SMALL)
    assert "going on after step" in done.stderr
    shared = last_json(done)
    assert shared["step"] == alone["step"] == 200
    assert [step["step"] for step in steps_of(tmp_path / "shared")] == list(range(1, 201))
    # After 200 steps rounding has had time to grow; the first steps still agree closely.
    early = zip(steps_of(tmp_path / "alone")[:25], steps_of(tmp_path / "shared")[:25], strict=True)
    assert all(two["loss"] == pytest.approx(one["loss"], abs=1e-5) for one, two in early)
    assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], abs=1e-2)


def test_a_signal_under_torchrun_saves(tmp_path: Path) -> None:
    recipe = small(tmp_path, steps=100_000, checkpoint={"every_steps": None})
    process = subprocess.Popen(
        torchrun("train", recipe, "--run", "shared", sets=SMALL),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    records = tmp_path / "shared" / "steps.jsonl"
    while not (records.exists() and records.read_text().count("\n") > 20):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert "SIGTERM at step" in said and "everything is saved" in said
    last = steps_of(tmp_path / "shared")[-1]["step"]
    assert (tmp_path / "shared" / "checkpoints" / f"step-{last:08d}").is_dir()


def test_one_process_finds_the_data_and_the_others_only_open_it(tmp_path: Path) -> None:
    recipe = small(tmp_path, steps=4)
    folder = last_json(tilth("prepare", recipe, "--json", cwd=tmp_path, sets=SMALL))["folder"]
    shutil.rmtree(tmp_path / "texts")
    shutil.rmtree(tmp_path / "work" / "tasks")
    done = together("train", recipe, "--json", cwd=tmp_path, sets=SMALL)
    assert last_json(done)["step"] == 4
    assert done.stderr.count("the sources cannot be read") == 1 and f"going on with {folder}" in done.stderr
    shutil.rmtree(tmp_path / folder)
    failed = together("train", recipe, "--run", "other", cwd=tmp_path, sets=SMALL)
    assert "there is nothing at texts" in failed.stderr and "exitcode  : 3" in failed.stderr
