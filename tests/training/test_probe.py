"""What is found by trying how many rows are best, and that nothing is left of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.helpers import equal, make_trainer, weights
from tilth.data.batches.batch import Batch
from tilth.distributed.refused import OutOfMemory
from tilth.training import step as step_module
from tilth.training.probe import Trial, fastest, largest

pytestmark = pytest.mark.slow


class Table:
    """Seconds of a pass by its rows, and which were asked for; the first pass of each size is twice as slow."""

    def __init__(self, **each: float) -> None:
        self.each = {int(rows.removeprefix("rows_")): seconds for rows, seconds in each.items()}
        self.asked: list[int] = []
        self.spent = 0.0

    def __call__(self, rows: int) -> float:
        self.asked.append(rows)
        if rows not in self.each:
            raise OutOfMemory("full")
        took = self.each[rows] * rows * (2 if self.asked.count(rows) == 1 else 1)
        self.spent += took
        return took


@pytest.mark.parametrize(
    ("table", "best", "asked"),
    [
        (Table(rows_1=0.010, rows_2=0.008, rows_4=0.007, rows_8=0.006), 8, [1, 2, 4, 8]),
        (Table(rows_1=0.010, rows_2=0.008, rows_4=0.007, rows_8=0.0069), 4, [1, 2, 4, 8]),
        (Table(rows_1=0.010, rows_2=0.005, rows_4=0.006, rows_8=0.001), 2, [1, 2, 4]),
        (Table(rows_1=0.010, rows_2=0.008), 2, [1, 2, 4]),
        (Table(rows_1=0.20, rows_2=0.18, rows_4=0.1), 2, [1, 2]),
        (Table(rows_1=0.80, rows_2=0.25), None, [1]),
        (Table(rows_1=0.01), 1, [1, 2]),
        (Table(), 1, [1]),
    ],
    ids=[
        "the larger",
        "the smaller of equals",
        "none beyond a slower",
        "full",
        "no time",
        "no time at all",
        "full at two",
        "full at once",
    ],
)
def test_the_fastest_size_within_two_seconds(table: Table, best: int | None, asked: list[int]) -> None:
    assert fastest([1, 2, 4, 8], table) == best
    assert list(dict.fromkeys(table.asked)) == asked
    assert table.spent <= 2 or len(table.asked) == 1


def test_one_size_needs_no_other() -> None:
    table = Table(rows_3=0.01)
    assert fastest([3], table) == 3 and table.asked == []


@pytest.mark.parametrize(("room", "rows"), [(99, 13), (12, 7), (6, 4), (1, 1), (0, 1)])
def test_the_largest_that_fits_of_halves(room: int, rows: int) -> None:
    assert largest(13, lambda tried: tried <= room) == rows


def test_a_trial_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    model, loader = trainer.parts.model, trainer.parts.loader
    before, drawn, seen = weights(trainer), torch.random.get_rng_state(), loader.samples
    model.eval()
    trial = Trial(model, torch.device("cpu"), "fp32", loader.peek, beside=1000)
    assert trial.seconds(3) > 0 and trial.fits(3)
    rows: list[int] = []

    def refuses(hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        rows.append(len(hidden))
        if len(rows) == 2:
            raise MemoryError
        return hidden.sum()

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "summed_loss", refuses)
        assert not trial.fits(2), "the second pass did not fit beside the gradient of the first"
    assert rows == [2, 2]
    assert not Trial(model, torch.device("cpu"), "fp32", loader.peek, beside=1 << 60).fits(1)
    with pytest.raises(ValueError, match="batch_size"):
        Trial(model, torch.device("cpu"), "fp32", lambda n: wrong(loader.peek(n))).fits(1)
    assert equal(before, weights(trainer)) and torch.equal(drawn, torch.random.get_rng_state())
    assert not model.training and all(p.grad is None for p in model.parameters()) and loader.samples == seen


def wrong(batch: Batch) -> Batch:
    return Batch(batch.input_ids[:, :5], batch.labels, batch.sample_ids)


def test_peeking_gives_the_rows_that_come_and_moves_nothing(tmp_path: Path) -> None:
    loader = make_trainer(tmp_path).parts.loader
    first, peeked = loader.peek(2), loader.peek(12)
    batches = [loader.next(), loader.next()]
    loader.close()
    for name in ("input_ids", "labels", "sample_ids"):
        assert np.array_equal(getattr(peeked, name), np.concatenate([getattr(batch, name) for batch in batches]))
        assert np.array_equal(getattr(first, name), getattr(peeked, name)[:2])
