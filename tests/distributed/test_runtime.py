"""The few collectives: the identity in one process, sums over two; and which device a name means."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.jobs.helpers import environment
from tilth.core.environment import launched
from tilth.core.errors import RecipeError
from tilth.distributed import runtime
from tilth.distributed.runtime import Runtime, asked_device, pick_device, start

WORKER = """
import torch
from tilth.distributed.runtime import start
group = start("cpu")
rank = group.rank
assert (group.world_size, group.is_main, group.device) == (2, rank == 0, torch.device("cpu"))
own = torch.tensor([1.0, 2.0]) + 10 * rank
assert group.sum(own) is own and own.tolist() == [12.0, 14.0]
mixed = [torch.full((2, 3), 1.0 + rank), torch.full((4,), 2.0, dtype=torch.float64), torch.ones(1) * rank]
strided = torch.arange(6.0).reshape(2, 3).t()
group.sum_all([*mixed, strided])
assert [tensor.unique().tolist() for tensor in mixed] == [[3.0], [4.0], [1.0]] and mixed[1].dtype == torch.float64
assert torch.equal(strided, 2 * torch.arange(6.0).reshape(2, 3).t())
assert group.any(rank == 1) and not group.any(False) and group.any(True)
assert group.largest(-3.0 - rank) == -3.0 and group.largest(0.1 + rank) == 1.1, "a double, and not the sum"
assert group.from_main(lambda: 0.1 + rank) == 0.1, "a double survives the trip whole"
for long in ("", "short", "ü" * 506, "ü" * 507, "x" * 100_000):
    assert group.from_main(lambda: [long, {"rank": rank}, None]) == [long, {"rank": 0}, None]
group.stop()
assert not torch.distributed.is_initialized()
print("done")
"""


def test_one_process_needs_no_group() -> None:
    alone, tensor = Runtime(torch.device("cpu")), torch.ones(3)
    assert alone.is_main and alone.sum(tensor) is tensor and tensor.tolist() == [1, 1, 1]
    alone.sum_all([tensor])
    assert alone.any(True) and not alone.any(False) and alone.from_main(lambda: (0.3,)) == (0.3,)
    alone.stop()
    assert tensor.tolist() == [1, 1, 1]


def test_memory_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 12345)
    assert Runtime(torch.device("cuda", 1)).peak_memory_bytes() == 12345 and asked == [torch.device("cuda", 1)]
    assert Runtime(torch.device("cpu")).peak_memory_bytes() > 1 << 24, "what the process has held"


@pytest.mark.slow
def test_two_processes_add_up_what_they_have(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "worker.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 2


HANGS = """
import os, time, datetime
from tilth.core.errors import PeerError
from tilth.distributed import runtime
runtime.PATIENCE = datetime.timedelta(seconds=2)
group = runtime.start("cpu")
assert group.any(True)
if group.rank == 1:
    time.sleep(100)
started = time.monotonic()
try:
    group.any(True)
except PeerError as error:
    print(f"{error} after {time.monotonic() - started:.0f} s", flush=True)
    os._exit(error.exit_code)  # as the command ends: the group's threads may abort an interpreter that is torn down
"""


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(HANGS)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "worker.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=90)
    assert "another process of this run is gone, or did not answer for 0:00:02" in done.stdout
    assert re.search(r"after [1-9] s", done.stdout) and re.search(r"exitcode\s*: 6", done.stderr), done.stdout


def test_start_joins_no_group_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert start("cpu") == Runtime(torch.device("cpu"), 0, 1)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, and no RANK or MASTER_ADDR or MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "no MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "1"}, "RANK=1, and WORLD_SIZE=1"),
    ],
)
def test_a_launch_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for look in (start, launched):
        with pytest.raises(RecipeError, match=said) as caught:
            look()
        assert "torchrun" in caught.value.remedy


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"), (True, True, "cuda")],
)
def test_auto_is_the_best_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(runtime.torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(runtime.torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == torch.device(expected)
    assert pick_device("cpu") == torch.device("cpu")
    for name, there in (("cuda", cuda), ("mps", mps)):
        if there:
            assert pick_device(name) == torch.device(name)  # type: ignore[arg-type]
        else:
            with pytest.raises(RecipeError, match=f"device: {name} is not available here") as caught:
                pick_device(name)  # type: ignore[arg-type]
            assert "train.device: auto" in caught.value.remedy


def test_a_device_that_is_named_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime.torch.cuda, "device_count", lambda: 2)
    for asked, found in (("cpu", "cpu"), ("cpu:0", "cpu"), ("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1")):
        assert asked_device(asked) == torch.device(found)
        if asked != "auto":
            assert asked_device(torch.device(asked)) == torch.device(found)
    with pytest.raises(RecipeError, match=r"device cuda:2: this machine has 2 GPUs\n.*cuda:0 to cuda:1"):
        asked_device("cuda:2")
    for wrong in ("gpu", None, 0, "cuda:", "cuda:x", "auto:0", torch.device("meta")):
        with pytest.raises(RecipeError, match=r"is not known\n.* one of: 'auto', 'cpu', 'cuda', 'mps'; 'cuda:N'"):
            asked_device(wrong)  # type: ignore[arg-type]
    monkeypatch.setattr(runtime.torch.cuda, "is_available", lambda: False)
    for asked in ("cuda", "cuda:0"):
        with pytest.raises(RecipeError, match="cuda is not available") as caught:
            asked_device(asked)
        assert "leave device out" in caught.value.remedy and "train.device" not in caught.value.remedy
