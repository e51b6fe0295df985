"""The recipes of `tilth init` that tune a checkpoint, as they are, on as few rows as people begin with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.conftest import call
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.core.rundir import RunFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows nothing (runs/small), and a hundred pairs of a question and its answer, as rows and as text."""
    home = tmp_path_factory.mktemp("templates")
    write_texts(home / "texts", documents=10)
    write_recipe(home / "r.yaml", "texts")
    sets = [*SMALL, "train.steps=1", "tokenizer={kind: byte}", "model.context_length=256", "train.batch_tokens=256"]
    assert call(home, "train", "r.yaml", "--workers", 1, sets=sets).code == 0
    pairs = [(f"How many are {n} and {n + 1}?\n", f"They are {2 * n + 1}.") for n in range(100)]
    (home / "instruct").mkdir()
    rows = [json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in pairs]
    (home / "instruct" / "pairs.jsonl").write_text("".join(rows))
    (home / "my-text.txt").write_text("\n".join(asked + said for asked, said in pairs))
    return home


@pytest.mark.parametrize("template", ["instruct", "lora", "finetune"])
def test_a_hundred_pairs_take_steps_enough_to_learn_from(home: Path, template: str) -> None:
    assert call(home, "init", f"{template}.yaml", "--template", template).code == 0
    said = call(
        home, "train", f"{template}.yaml", "--workers", 1, sets=["model.from=runs/small", "train.precision=fp32"]
    )
    assert said.code == 0 and "warm-up" not in said.err, said.err
    steps = RunFolder(home / "runs" / template).steps()
    rates, losses = [record.lr for record in steps], [record.loss for record in steps]
    assert len(steps) >= 10 and rates.index(max(rates)) <= len(steps) // 5, "it warms up, and goes on"
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_run_that_ends_within_its_warm_up_says_so(home: Path) -> None:
    sets = [*SMALL, "train.steps=30", "train.hours=0.0000001", "train.schedule.warmup_steps=20"]
    said = call(home, "train", "r.yaml", "--run", "short", sets=sets)
    assert "the run ended within its warm-up, at step 1 of 20 steps: the learning rate came to 5% of" in said.err
    assert "give fewer train.schedule.warmup_steps (left out, it is 3), a longer run" in said.err
    assert "within its warm-up" not in call(home, "train", "r.yaml", "--run", "short", sets=sets).err, "once"


@pytest.mark.parametrize(
    ("given", "said"), [("null", " (left out, it is 20)"), ("40", " (left out, it is 20)"), ("9", "")]
)
def test_what_a_warm_up_is_by_itself_is_told_of_this_run(home: Path, given: str, said: str) -> None:
    """Where the clock alone ends it that is no tenth of anything; and it is no advice where it is longer."""
    ends = ["train.steps=null", "train.hours=0.0000001", f"train.schedule.warmup_steps={given}"]
    told = call(home, "train", "r.yaml", "--run", f"clock-{given}", sets=[*SMALL, *ends])
    assert f"give fewer train.schedule.warmup_steps{said}, a longer run" in told.err
