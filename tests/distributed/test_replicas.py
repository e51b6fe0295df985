"""What processes hold otherwise than process 0 is found, whatever its type, and given to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.jobs.helpers import environment
from tilth.distributed import replicas
from tilth.distributed.runtime import Runtime

WORKER = """
import torch
from tilth.core.errors import PeerError
from tilth.distributed.replicas import differing, take_from_main
from tilth.distributed.runtime import start
group = start("cpu")
rank = group.rank
draw = torch.Generator().manual_seed(0)
def made():
    return {
        "same": torch.randn(600_000, generator=draw),
        "float": torch.randn(5, 7, generator=draw),
        "half": torch.randn(3, generator=draw).bfloat16(),
        "strided": torch.randn(4, 6, generator=draw).T,
        "codes": torch.arange(9, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(3.0),
        "swapped": torch.arange(4.0),
        "empty": torch.empty(0, 3),
    }
tensors = made()
kept = {name: tensor.clone() for name, tensor in tensors.items()}
assert differing(group, tensors) == []
apart = torch.full((4,), 1.0 if rank == 0 else 1.004)
assert abs(take_from_main(group, {"apart": apart}) - 0.004) < 1e-6, "two are as far as one"
if rank == 1:
    tensors["float"][4, 6] *= 1 + 1e-6
    tensors["half"][0] += 1
    tensors["strided"][5, 3] += 1
    tensors["codes"][8] = 0
    tensors["flags"][1] = True
    tensors["count"] += 1
    tensors["swapped"][:2] = torch.tensor([1.0, 0.0])
assert differing(group, tensors) == ["float", "half", "strided", "codes", "flags", "count", "swapped"]
far = take_from_main(group, {"float": tensors["float"]})
assert 1e-8 < far < 1e-5, "a share of the largest"
assert take_from_main(group, {"codes": tensors["codes"]}) == 1
if rank == 1:
    tensors["count"].fill_(float("nan"))
assert take_from_main(group, tensors) >= 1
assert differing(group, tensors) == [] and all(torch.equal(kept[name], tensors[name]) for name in kept)
try:
    differing(group, {"same": torch.zeros(2 + rank)})
except PeerError as error:
    assert "different shapes" in str(error)
    print("done")
group.stop()
"""


def test_one_process_is_alike() -> None:
    alone, tensors = Runtime(torch.device("cpu")), {"w": torch.randn(3)}
    assert replicas.differing(alone, tensors) == [] and replicas.take_from_main(alone, tensors) == 0


def test_each_bit_and_its_place_count() -> None:
    numbers = torch.randn(1000)
    seen = {tuple(replicas._sums(numbers))}
    for place in range(0, 1000, 7):
        for bit in range(32):
            other = numbers.clone()
            other.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
            seen.add(tuple(replicas._sums(other)))
    seen.add(tuple(replicas._sums(numbers.flip(0))))
    assert len(seen) == 1 + 143 * 32 + 1


@pytest.mark.slow
def test_three_processes_come_to_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", "worker.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 3
