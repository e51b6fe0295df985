"""`train.activation_checkpointing: auto` and `train.memory`: as few layers as must be, and the same numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes
from tilth.core.errors import RecipeError
from tilth.jobs.forecasting import recomputed, room
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.forecasting.micro_rows import FILLED
from tilth.jobs.forecasting.recomputed import draws_otherwise, recomputing, settle_recomputed
from tilth.jobs.forecasting.room import has, room_for
from tilth.jobs.recipe import Recipe, make_recipe

CPU = torch.device("cpu")
LAYERS = 4


def recipe(**train: object) -> Recipe:
    shape = {"preset": "llama-tiny", "num_hidden_layers": LAYERS, "hidden_size": 128, "context_length": 128}
    made = make_recipe(
        {
            "name": "r",
            "data": {"sources": [{"path": "x.txt"}], "split": {"validation": 0}},
            "model": shape,
            "tokenizer": {"kind": "byte"},
            "train": {"steps": 4, "batch_tokens": 8192, "schedule": {"name": "constant"}, "micro_batch": 32, **train},
        }
    )
    return made.model_copy(update={"model": made.model.model_copy(update={"vocab_size": 300})})


def needed(asked: Recipe, layers: str | int) -> int:
    less = recomputing(asked, layers)  # type: ignore[arg-type]
    return memory_forecast(less, asked.model, 32, CPU, precision="fp32", rows=64, held_out=0).total


def settled(asked: Recipe) -> tuple[str | int, str]:
    return settle_recomputed(asked, asked.model, 64, CPU, "fp32")


@pytest.mark.slow
def test_as_few_layers_as_must_be_are_computed_again() -> None:
    ways = ("none", 1, 2, 3, "full")
    sizes = [needed(recipe(), layers) for layers in ways]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] + (40 << 20)
    for size in sizes:
        room = int(size / FILLED) + 1024
        fewest = next(layers for layers, taken in zip(ways, sizes, strict=True) if taken <= FILLED * room)
        found, said = settled(recipe(memory=f"{room / 1000}KB"))
        assert found == fewest
        if found != "none":
            assert re.fullmatch(
                rf"{found} of 4 layers are computed .* so that 32 rows at once fit into 0\.\d GiB", said
            )
    found, said = settled(recipe(memory=f"{sizes[-1] / 2 / 1000}KB"))
    assert found == "full" and said.startswith("all 4 layers")
    assert "come nearer to 0.2 GiB: they take 0.4 GiB" in said


def test_what_the_recipe_says_stays_and_nothing_is_foretold_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unasked(*_: object, **__: object) -> None:
        raise AssertionError("a forecast was made")

    monkeypatch.setattr(recomputed, "memory_forecast", unasked)
    for asked in ("none", "full", 2):
        assert settled(recipe(activation_checkpointing=asked, memory="1MB")) == (asked, "")
    assert settled(recipe()) == ("none", "")
    with pytest.raises(AssertionError, match="a forecast was made"):
        settled(recipe(memory="300MB"))


@pytest.mark.slow
def test_rows_that_are_found_later_begin_from_some_hundred_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def forecast(*given: object, **_: object) -> object:
        asked.append(given[2])  # type: ignore[arg-type]
        raise recomputed.NoForecastError

    monkeypatch.setattr(recomputed, "memory_forecast", forecast)
    assert settled(recipe(memory="1MB", micro_batch="auto")) == ("none", "")
    assert settled(recipe(memory="1MB", micro_batch=100)) == ("none", "")
    assert asked == [4, 64], "512 tokens of 128 each; no more than the share"


def test_where_draws_would_be_others_nothing_is_computed_again() -> None:
    mps, asked = torch.device("mps"), recipe(memory="1MB")
    dropping = asked.model_copy(update={"model": asked.model.model_copy(update={"dropout": 0.1})})
    assert draws_otherwise(dropping, dropping.model, mps) == ["dropout"]
    assert draws_otherwise(dropping, dropping.model, CPU) == draws_otherwise(asked, asked.model, mps) == []
    assert settle_recomputed(dropping, dropping.model, 64, mps, "fp32") == ("none", "")


def test_the_room_is_the_least_of_what_is_there_and_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "total_memory_bytes", lambda: 8 << 30)
    assert room_for(recipe(), CPU) == 8 << 30 and has(recipe(), CPU) == "cpu has 8.0 GiB"
    assert room_for(recipe(memory="2GiB"), CPU) == 2 << 30
    assert has(recipe(memory="2GiB"), CPU) == "train.memory is 2GiB"
    assert room_for(recipe(memory="16GiB"), CPU) == 8 << 30
    monkeypatch.setattr(room, "launched", lambda: SimpleNamespace(local_size=2))
    assert room_for(recipe(), CPU) == 4 << 30 and has(recipe(), CPU) == "cpu has 8.0 GiB for 2 processes"
    monkeypatch.setattr(room, "total_memory_bytes", lambda: None)
    assert room_for(recipe(), CPU) is None and room_for(recipe(memory="2GiB"), CPU) == 2 << 30


@pytest.mark.parametrize("wrong", ["16", "much", "", "0GiB", "-1GiB"])
def test_an_amount_of_memory_has_a_unit(wrong: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.memory"):
        recipe(memory=wrong)


@pytest.mark.parametrize("wrong", ["half", 0, -1, True, 1.5])
def test_layers_are_named_or_counted(wrong: object) -> None:
    with pytest.raises(RecipeError, match="activation_checkpointing"):
        recipe(activation_checkpointing=wrong)


@pytest.mark.slow
def test_a_run_within_its_memory_has_the_same_bits_and_goes_on_with_other_layers(trained: Path, cli: Cli) -> None:
    shape = [*SMALL, "model.dropout=0.2", "model.num_hidden_layers=3", "train.micro_batch=8"]

    def final(run: str) -> str:
        return hashes(trained / "runs" / run / "final")["model.safetensors"]

    assert cli("train", "r.yaml", "--run", "runs/plain", sets=shape).code == 0
    tight = cli("train", "r.yaml", "--run", "runs/tight", sets=[*shape, "train.memory=2MB", "train.steps=5"])
    assert tight.code == 0 and "all 3 layers are computed again on the way back" in tight.err
    assert "that is more than train.memory: 2MB" in tight.err
    rest = cli("train", "r.yaml", "--run", "runs/tight", sets=[*shape, "train.activation_checkpointing=2"])
    assert rest.code == 0 and "rounds otherwise" not in rest.err
    assert final("tight") != final("plain"), "the schedule was planned for five steps"
    for layers in (1, 2):
        also = [*shape, f"train.activation_checkpointing={layers}"]
        assert cli("train", "r.yaml", "--run", f"runs/{layers}", sets=also).code == 0
        assert final(str(layers)) == final("plain")
    over = cli("train", "r.yaml", "--run", "runs/over", sets=[*shape, "train.activation_checkpointing=4"])
    over.expect_fault(2, "activation_checkpointing 4", "has 3 layers", "a number up to 3")
    assert not (trained / "runs" / "over").exists()


@pytest.mark.slow
def test_the_check_says_which_layers_and_what_is_too_large(trained: Path, cli: Cli) -> None:
    asked = [*SMALL, "train.memory=2MB", "train.micro_batch=8"]
    checked = cli("check", "r.yaml", "--json", sets=asked)
    found = json.loads(checked.out.splitlines()[-1])
    assert checked.code == 2 and found["forecast"]["run"]["activation_checkpointing"] == "full"
    assert any("train.memory is 2MB" in fault["message"] for fault in found["errors"])
    assert "layers computed again  all" in cli("check", "r.yaml", sets=asked).out
    half = cli("check", "r.yaml", sets=[*SMALL, "model.num_hidden_layers=2", "train.activation_checkpointing=1"])
    assert half.code == 0 and "layers computed again  the first 1" in half.out
