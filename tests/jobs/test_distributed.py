"""Under torchrun, two processes on the loopback: the same samples and the same losses as one process alone. Where the
launcher itself is not what is looked at, forked.py begins the two as it does, without the imports of three processes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs.conftest import Cli
from tests.jobs.forked import Both, both
from tests.jobs.helpers import SMALL, environment, last_json, write_recipe, write_texts
from tests.jobs.test_quickstart_chat import small_library
from tilth.core.files import FolderLock

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
    train = {"steps": 15, "micro_batch": 4, "optimizer": {"lr": 3e-3}, **train}
    return write_recipe(folder / "r.yaml", "texts", train=train, evaluate={"every": 5, "batch_tokens": 64})


def test_two_processes_do_what_one_does(tmp_path: Path, cli: Cli) -> None:
    sets = [*SMALL, "data.cross_document_attention=false"]
    recipe = small(tmp_path)
    alone = cli("train", recipe, "--run", "alone", "--json", sets=sets).json()
    done = together("train", recipe, "--run", "shared", "--workspace", "other", "--json", cwd=tmp_path, sets=sets)
    shared = last_json(done)
    assert_same(tmp_path / "alone", tmp_path / "shared")
    assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], abs=1e-5)
    assert {k: shared[k] for k in ("step", "tokens", "stopped_by")} == {
        k: alone[k] for k in ("step", "tokens", "stopped_by")
    }
    assert done.stdout.count('{"run"') == 1 and done.stderr.count("step 15  validation") == 1, "one process speaks"
    events = [json.loads(line) for line in (tmp_path / "shared" / "events.jsonl").read_text().splitlines()]
    assert sum(event["kind"] == "evaluation" for event in events) == 3


UNEVEN = {
    "fixed": ["train.batch_tokens=240"],
    "all": ["train.batch_tokens=all", "train.optimizer={name: gd, lr: 0.5}", "train.micro_batch=64"],
}


@pytest.mark.parametrize("kind", UNEVEN)
def test_uneven_shares_give_what_one_process_gives(tmp_path: Path, cli: Cli, kind: str) -> None:
    sets = [*SMALL, *UNEVEN[kind], "train.steps=4"]
    recipe = small(tmp_path)
    assert cli("train", recipe, "--run", "alone", sets=sets).code == 0
    assert (steps_of(tmp_path / "alone")[0]["last_sample"] + 1) % 2 == 1, "two cannot share it evenly"
    both("train", recipe, "--run", "shared", "--json", cwd=tmp_path, sets=sets).json()
    assert_same(tmp_path / "alone", tmp_path / "shared")


def assert_quiet(done: subprocess.CompletedProcess[str] | Both, code: int, *parts: str) -> None:
    """One process told what is wrong, and no other showed more than that it left: with the same exit code, or ended by
    torchrun's signal, which came before or after it could answer one.
    """
    if isinstance(done, Both):
        said, codes = done.err, done.codes
    else:
        assert done.returncode == 1, "torchrun's own, whatever the processes' was"
        said = done.stderr
        codes = [int(number) for number in re.findall(r"exitcode\s*: (-?\d+)", said)]
    assert said.count("tilth: ") == 1 and all(part in said for part in parts), said
    assert not re.search("gloo|RuntimeError|DistBackendError", said), said
    assert code in codes and {*codes} <= {code, -signal.SIGTERM, 75}, said


def test_a_fault_of_process_0_alone_ends_all_with_its_exit_code(trained: Path) -> None:
    sets = [*SMALL, "train.steps=20"]
    done = together("train", "r.yaml", cwd=trained, sets=[*sets, "train.seed=7"])
    assert_quiet(done, 2, "made by another recipe: ", "train.seed: 1 -> 7", "--run")
    with FolderLock(trained / "runs" / "small", "the run folder"):
        held = both("train", "r.yaml", cwd=trained, sets=sets)
    assert_quiet(held, 3, f"runs/small is in use by process {os.getpid()}")


ENDED = """
import os, signal
from tilth.cli import main
from tilth.core import environment
def ended():
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
environment.launched = ended
main.main()
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_of_processes_that_the_launcher_ends_the_first_alone_speaks(trained: Path, rank: int) -> None:
    words = [sys.executable, "-c", ENDED, "train", "r.yaml"]
    rest = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = subprocess.run(words, cwd=trained, env=environment() | rest, capture_output=True, text=True, timeout=60)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("tilth: SIGTERM: what was finished is kept") == 1 - rank
    assert "Traceback" not in done.stderr


FEW_TEXTS = """
import sysconfig
sysconfig.get_path = lambda _: "library"
from tilth.cli.main import main
main()
"""


def test_quickstart_under_torchrun_is_told_once(tmp_path: Path) -> None:
    small_library(tmp_path / "library")
    (tmp_path / "few.py").write_text(FEW_TEXTS)
    done = both("quickstart", "--steps", "2", cwd=tmp_path, script="few.py")
    assert done.codes == [0, 0], done.err
    assert done.out.count("4/4  What it writes") == 1 and (tmp_path / "runs/quickstart/report.html").exists()
    assert len(steps_of(tmp_path / "runs" / "quickstart")) == 2


def test_a_full_disk_under_torchrun_ends_all_and_loses_nothing(trained: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # checkpoints of this model are larger

    words = torchrun("train", "r.yaml", sets=[*SMALL, "train.steps=20"])
    done = subprocess.run(
        words, cwd=trained, env=environment(), capture_output=True, text=True, timeout=300, preexec_fn=limit
    )
    assert_quiet(done, 4, "could not save step 16", "cannot write", "type the same command")
    damaged = trained / "runs" / "small" / "checkpoints" / "step-00000012" / "state.json"
    damaged.write_text(damaged.read_text().replace("1", "2", 1))
    ended = both("train", "r.yaml", "--json", cwd=trained, sets=[*SMALL, "train.steps=20"])
    assert ended.json()["step"] == 20
    assert ended.err.count("set aside as step-00000012.damaged") == 1 and "going on after step 8" in ended.err
    assert len(list(damaged.parents[1].glob("*.damaged*"))) == 1, "by the one process that holds the folder"


ALONE = """
import os
from tilth.cli import main
from tilth.core.errors import DataError
from tilth.data.batches import sampling
made = sampling.make_batch
def fails(stream, starts, context_length, samples, *how):
    if os.environ["RANK"] == "1" and samples[0] > 100:
        raise DataError("the planted fault", "remove it")
    return made(stream, starts, context_length, samples, *how)
sampling.make_batch = fails
main.main()
"""


def test_a_process_that_fails_alone_leaves_no_other_waiting(trained: Path) -> None:
    (trained / "alone.py").write_text(ALONE)
    done = both("train", "r.yaml", "--run", "other", cwd=trained, sets=SMALL, script="alone.py")
    assert "tilth: the planted fault\n  remedy: remove it" in done.err and "Traceback" not in done.err
    assert done.codes[1] == 3 and done.codes[0] in {6, -signal.SIGTERM, 75}, done.err
    if done.codes[0] == 6:
        assert "another process of this run is gone" in done.err


OTHER_PROCESSOR = """
import os
if os.environ["RANK"] == "1":
    os.environ["ATEN_CPU_CAPABILITY"] = "default"  # draws and rounds as an old processor does
from tilth.cli import main
main.main()
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="this processor is the old one")
def test_processors_of_two_kinds_train_one_model(tmp_path: Path) -> None:
    recipe = small(tmp_path, steps=12, checkpoint={"every_steps": 4, "keep": 9, "best": False})
    (tmp_path / "other.py").write_text(OTHER_PROCESSOR)

    def trained() -> tuple[list[dict[str, Any]], list[str]]:
        done = both("train", recipe, "--run", "run", cwd=tmp_path, sets=SMALL, script="other.py")
        assert done.codes == [0, 0], done.err
        return steps_of(tmp_path / "run"), [line for line in done.err.splitlines() if "warning" in line]

    whole, said = trained()
    assert "not all processes drew or loaded the weights" in said[0] and "all begin with those" in said[0]
    assert "step 4  warning: the processes round otherwise" in said[1] and len(said) == 2, "told once"
    for gone in ("checkpoints/step-00000012", "checkpoints/step-00000008"):
        shutil.rmtree(tmp_path / "run" / gone)
    again, _ = trained()
    assert again == whole, "to the same bits, as each checkpoint is what all went on from"


def test_killed_under_torchrun_it_goes_on(tmp_path: Path, cli: Cli) -> None:
    recipe = small(tmp_path, steps=60, checkpoint={"every_steps": 7})
    alone = cli("train", recipe, "--run", "alone", "--json", sets=SMALL).json()
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
        time.sleep(0.002)
    os.kill(int((tmp_path / "shared" / ".lock").read_text()), signal.SIGKILL)  # process 0, which writes
    assert process.wait(timeout=60) != 0
    done = both("train", recipe, "--run", "shared", "--json", cwd=tmp_path, sets=SMALL)
    assert "going on after step" in done.err
    shared = done.json()
    assert shared["step"] == alone["step"] == 60
    assert [step["step"] for step in steps_of(tmp_path / "shared")] == list(range(1, 61))
    # After 60 steps rounding has had time to grow; the first steps still agree closely.
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


def test_one_process_finds_the_data_and_the_others_only_open_it(tmp_path: Path, cli: Cli) -> None:
    recipe = small(tmp_path, steps=4)
    folder = cli("prepare", recipe, "--json", sets=SMALL).json()["folder"]
    shutil.rmtree(tmp_path / "texts")
    shutil.rmtree(tmp_path / "work" / "tasks")
    done = both("train", recipe, "--json", cwd=tmp_path, sets=SMALL)
    assert done.json()["step"] == 4
    assert done.err.count("the sources cannot be read") == 1 and f"going on with {folder}" in done.err
    shutil.rmtree(tmp_path / folder)
    failed = both("train", recipe, "--run", "other", cwd=tmp_path, sets=SMALL)
    assert "there is nothing at texts" in failed.err and failed.codes[0] == 3
