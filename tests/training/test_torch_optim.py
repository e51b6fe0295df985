"""torch's optimizers without its compiler: the same bits, and a second less at the start of every run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from tilth.training import torch_optim

SCRIPT = """
import sys, torch
from tilth.training import torch_optim
from tilth.training.muon import Muon

def step(optimizer):
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

weight = torch.nn.Parameter(torch.ones(4, 4))
step(torch_optim.AdamW([weight], fused=True))
step(torch_optim.SGD([weight], lr=0.1, momentum=0.9, fused=True))
for muon in (False, True):
    step(Muon([{"params": [weight], "weight_decay": 0.1, "muon": muon}], 0.1, 0.9, (0.9, 0.95), 1e-8))
print("torch._dynamo" in sys.modules)
step(torch.optim.AdamW([weight], fused=True))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [
        (torch_optim.AdamW, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1, "fused": True}),
        (torch_optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "fused": True}),
        (torch_optim.SGD, torch.optim.SGD, {"lr": 0.1, "fused": True}),
    ],
)
def test_steps_are_those_of_torch_to_the_bit(ours: Any, torchs: Any, options: dict[str, Any]) -> None:
    ends, states = [], []
    for kind in (ours, torchs):
        draw = torch.Generator().manual_seed(1)
        weight = torch.nn.Parameter(torch.randn(7, 5, generator=draw))
        optimizer = kind([("weight", weight)], **options)
        for _ in range(5):
            weight.grad = torch.randn(7, 5, generator=draw)
            optimizer.step()
            assert weight.grad_fn is None and weight.requires_grad
            optimizer.zero_grad(set_to_none=True)
            assert weight.grad is None
        ends.append(weight.detach())
        states.append(optimizer.state[weight])
    assert torch.equal(*ends) and states[0].keys() == states[1].keys()


@pytest.mark.slow
def test_no_compiler_is_imported_to_train() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    ours, torchs = done.stdout.splitlines()
    assert ours == "False"
    assert torchs == "True", "what is avoided here is no longer there: the classes may go"
