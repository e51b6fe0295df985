"""`train.micro_batch: auto`: what is chosen, that it is kept, and that the choice leaves no trace in the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes
from tilth.data.dataset import open_dataset
from tilth.distributed.runtime import Runtime
from tilth.jobs.batches import make_loader
from tilth.jobs.forecasting import micro_rows
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.forecasting.micro_rows import choose_micro_rows, largest_fitting
from tilth.jobs.parts import complete_model
from tilth.jobs.recipe import load_recipe, load_shipped
from tilth.model.config import parameter_count
from tilth.model.transformer import build
from tilth.training.probe import Trial

CPU = torch.device("cpu")
DROPOUT = [*SMALL, "model.dropout=0.3"]


def of_run(run: Path, step: int) -> Any:
    return json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())["micro_rows"]


def decided(run: Path) -> Any:
    return json.loads((run / "decisions.json").read_text())["micro_rows"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Even the smallest share is measured, and rows are fastest four at once; the real passes are done."""
    asked: list[int] = []
    passed = Trial.seconds

    def seconds(self: Trial, rows: int) -> float:
        asked.append(rows)
        assert passed(self, rows) > 0
        return rows * (0.001 if rows == 4 else 0.00105)

    monkeypatch.setattr(micro_rows, "_CACHED", 0)
    monkeypatch.setattr(micro_rows, "_FEWEST_TOKENS", 1)
    monkeypatch.setattr(Trial, "seconds", seconds)
    return asked


@pytest.mark.slow
def test_what_was_measured_is_kept_and_leaves_no_trace(trained: Path, cli: Cli, measured: list[int]) -> None:
    assert cli("train", "r.yaml", "--run", "auto", sets=DROPOUT).code == 0
    assert list(dict.fromkeys(measured)) == [1, 2, 4, 8, 16]
    assert decided(trained / "auto") == 4 and of_run(trained / "auto", 12) == 4
    assert cli("train", "r.yaml", "--run", "four", sets=[*DROPOUT, "train.micro_batch=4"]).code == 0
    assert cli("train", "r.yaml", "--run", "eight", sets=[*DROPOUT, "train.micro_batch=8"]).code == 0
    final = [hashes(trained / run / "final")["model.safetensors"] for run in ("auto", "four", "eight")]
    assert final[0] == final[1] != final[2], "the bits are those of the rows that were chosen, and of nothing else"
    measured.clear()
    assert cli("train", "r.yaml", "--run", "auto", sets=[*DROPOUT, "train.steps=14"]).code == 0
    assert not measured and of_run(trained / "auto", 14) == 4


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_does_not_measure_again(
    trained: Path, cli: Cli, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tilth.jobs.train.say_where", dies)
        assert cli("train", "r.yaml", "--run", "auto", sets=DROPOUT).code == 130
    assert measured and decided(trained / "auto") == 4
    measured.clear()
    assert cli("train", "r.yaml", "--run", "auto", sets=DROPOUT).code == 0
    assert not measured and of_run(trained / "auto", 12) == 4


@pytest.fixture
def chosen(trained: Path) -> Any:
    """What is chosen for the small run with these settings."""
    dataset = open_dataset(next((trained / "work" / "datasets").iterdir()))

    def choose(*sets: str, device: torch.device = CPU, processes: int = 1) -> int:
        recipe = load_recipe(trained / "r.yaml", [*SMALL, *sets])
        config = complete_model(recipe.model, dataset.tokenizer)
        loader = make_loader(recipe, dataset, Runtime(CPU, 0, processes))
        return choose_micro_rows(recipe, config, build(config, 1), loader, device, "fp32")  # type: ignore[arg-type]

    return choose


def test_what_is_asked_for_is_taken_as_far_as_there_are_rows(chosen: Any) -> None:
    assert chosen("train.micro_batch=5") == 5
    assert chosen("train.micro_batch=64") == 16
    assert chosen("train.micro_batch=64", processes=3) == 6


def test_small_shares_and_long_rows_are_not_measured(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(self: Trial, rows: int) -> float:
        raise AssertionError("measured")

    monkeypatch.setattr(Trial, "seconds", seconds)
    assert chosen() == 16 and chosen(processes=3) == 6
    monkeypatch.setattr(micro_rows, "_CACHED", 0)
    with pytest.raises(AssertionError, match="measured"):
        chosen("train.batch_tokens=1024")
    monkeypatch.setattr(micro_rows, "_SLOW_FLOPS", 0.0)
    monkeypatch.setattr(micro_rows, "_MOST", 20 * 16 * 1 * (14 * 32 + 3 * 128) * 4)
    assert 16 <= chosen("train.batch_tokens=1024") <= 22, "as many as fit, in equal pieces"


def test_equal_pieces_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_shipped("quickstart")
    config = recipe.model.model_copy(update={"vocab_size": 300})
    row = micro_rows._row_bytes(config)

    def fitting(share: int) -> int:
        return largest_fitting(recipe, config, share, CPU, "fp32")

    for most, share, rows in ((17, 64, 16), (17, 100, 17), (64, 64, 64), (1, 7, 1), (0, 7, 1), (5, 6, 3)):
        monkeypatch.setattr(micro_rows, "_MOST", most * row)
        assert fitting(share) == rows
    monkeypatch.setattr(micro_rows, "_MOST", 1 << 34)
    monkeypatch.setattr("tilth.jobs.forecasting.room.room_of", lambda device: 1 << 40)
    assert fitting(8) == 8


@pytest.mark.slow
def test_where_memory_is_short_the_forecast_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_shipped("quickstart")
    config = recipe.model.model_copy(update={"vocab_size": 300})

    def needed(rows: int) -> int:
        return memory_forecast(recipe, config, rows, CPU, precision="fp32", rows=64).total

    def fitting() -> int:
        return largest_fitting(recipe, config, 64, CPU, "fp32")

    room = int(needed(32) / 0.9) + (1 << 20)
    monkeypatch.setattr("tilth.jobs.forecasting.room.room_of", lambda device: room)
    monkeypatch.setattr(micro_rows, "_within_bound", lambda recipe, config, share, device: share)
    assert fitting() == 32
    monkeypatch.setattr("tilth.jobs.forecasting.room.room_of", lambda device: 1 << 20)
    assert fitting() == 1, "the least that there is to try"


@pytest.mark.parametrize(
    ("fixed", "each", "room", "rows"), [(10, 5, 60, 10), (10, 5, 62, 10), (10, 5, 9, 1), (0, 1, 99, 64)]
)
def test_lines_find_the_most_within(fixed: int, each: int, room: int, rows: int) -> None:
    def size(tried: int) -> int:
        return max(40, fixed + each * tried)  # what an evaluation needs, whatever a step does

    assert micro_rows.most_within(room, 1, 64, size) == rows


@pytest.mark.parametrize("bend", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("rows", [1, 2, 3, 30, 62, 63])
def test_bent_sizes_are_searched_to_the_end_in_few_questions(bend: float, rows: int) -> None:
    asked: list[int] = []

    def size(tried: int) -> int:
        asked.append(tried)
        return int(1e9 * tried**bend)

    assert micro_rows.most_within(size(rows), 1, 64, size) == rows
    assert micro_rows.most_within(size(rows + 1) - 1, 1, 64, size) == rows
    assert len(asked) <= (10 if bend == 1 else 25)


def test_on_cuda_it_is_the_most_that_fit_beside_the_optimizer(
    trained: Path, chosen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way it is decided, not the device: no GPU is needed here."""
    beside: list[int] = []

    def fits(self: Trial, rows: int) -> bool:
        beside.append(self.beside)
        return rows <= 5

    monkeypatch.setattr(Trial, "fits", fits)
    monkeypatch.setattr(micro_rows, "largest_fitting", lambda recipe, config, share, *_: share)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    assert chosen(device=torch.device("cuda")) == 4
    config = load_recipe(trained / "r.yaml", SMALL).model.model_copy(update={"vocab_size": 257})
    assert beside == 3 * [2 * 4 * parameter_count(config)], "AdamW: two numbers of four bytes for each parameter"
