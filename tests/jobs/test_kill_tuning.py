"""kill -9 at random moments of tuning: an adapter, answers in packed rows, hidden tokens, an imported checkpoint. What
is resumed to its end equals what was never stopped, to the bit."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.forked import Forked
from tests.jobs.helpers import hashes

pytestmark = pytest.mark.slow

STEPS = 60
CHECKPOINTS = {"every_steps": 7}
PHI = "transformers.models.phi.modeling_phi"  # of `wrapped`, and two seconds
TIMED = ("run", "seconds", "new_steps", "checkpoint", "forecast")


def lora(folder: Path) -> Path:
    write_base(folder / "base", "llama")
    adapter = {"rank": 4, "dropout": 0.2, "targets": ["q_proj", "up_proj"], "modules_to_save": ["norm"]}
    train = {"steps": STEPS, "micro_batch": 3, "checkpoint": CHECKPOINTS}  # eight rows: three micro-batches
    return tuning(folder, "base", adapter=adapter, train=train, evaluate={"every": 25})


def packed_answers(folder: Path) -> Path:
    write_base(folder / "base", "llama")
    train = {**SFT["train"], "steps": STEPS, "checkpoint": CHECKPOINTS, "final": "best"}
    model = {"dropout": 0.1}
    return tuning(
        folder, "base", data=SFT["data"], model=model, adapter={"rank": 4}, train=train, evaluate={"every": 20}
    )


def masked_from_scratch(folder: Path) -> Path:
    shape = {"preset": "bert-mini", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2}
    train = {"steps": STEPS, "objective": "masked_lm", "checkpoint": CHECKPOINTS, "masking": {"whole_word_mask": True}}
    recipe = tuning(folder, "", train=train, tokenizer={"kind": "byte", "special_tokens": ["<|mask|>"]})
    return _with(recipe, model={**shape, "context_length": 32, "intermediate_size": None, "dropout": 0.1})


def imported(folder: Path) -> Path:
    write_base(folder / "base", "gpt2")
    train = {"steps": STEPS, "checkpoint": CHECKPOINTS, "freeze": ["embed_positions"]}
    return tuning(folder, "base", model={"dropout": 0.1}, train=train, evaluate={"every": 25})


def wrapped(folder: Path) -> Path:
    write_base(folder / "base", "phi")
    train = {"steps": STEPS, "checkpoint": CHECKPOINTS}
    return tuning(folder, "base", model={"dropout": 0.1}, train=train, evaluate={"every": 25})


def _with(recipe: Path, **sections: Any) -> Path:
    recipe.write_text(json.dumps({**json.loads(recipe.read_text()), **sections}))
    return recipe


def steps_in(run: Path) -> int:
    records = run / "steps.jsonl"
    return records.read_text().count("\n") if records.exists() else 0


def kill_at(recipe: Path, run: Path, step: int, wait: float) -> None:
    """Starts the command, waits until the run has recorded so many steps and a moment longer, and kills it."""
    process = Forked("train", recipe, "--run", run.name, "--json", cwd=run.parent, imports=[PHI])
    while steps_in(run) < step:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    time.sleep(wait)
    assert process.poll() is None, "it ended before it could be killed: make the run longer"
    process.kill()
    process.communicate()


@pytest.mark.parametrize("make", [lora, packed_answers, masked_from_scratch, imported, wrapped])
def test_killed_it_ends_with_the_same_bits(tmp_path: Path, cli: Cli, make: Callable[[Path], Path]) -> None:
    recipe, draw = make(tmp_path), random.Random(5)
    whole = cli("train", recipe, "--run", "whole", "--json").json()
    assert whole["step"] == STEPS
    for low, high in ((1, 20), (27, 45)):
        kill_at(recipe, tmp_path / "killed", draw.randint(low, high), draw.uniform(0, 0.05))
    ended = cli("train", recipe, "--run", "killed", "--json")
    result = ended.json()
    assert "the same bits" in ended.err
    assert {k: v for k, v in result.items() if k not in TIMED} == {k: v for k, v in whole.items() if k not in TIMED}
    assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "killed" / "final")
    steps = [json.loads(line) for line in (tmp_path / "killed" / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1)), "each step is recorded once"
    newest = max((tmp_path / "killed" / "checkpoints").glob("step-*"))
    assert json.loads((newest / "state.json").read_text())["loader"]["epoch"] >= 1, "the end of an epoch is crossed"
