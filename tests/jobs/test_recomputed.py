"""`train.activation_checkpointing: auto` and `train.memory`: as few layers as must be, and the same numbers."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes
from tilth.core.errors import RecipeError
from tilth.jobs.forecasting import micro_rows, recomputed, room
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
            of_them = f"{found} of 4" if found != "full" else "all"
            assert re.fullmatch(rf"{of_them} layers are computed .* so that 32 rows at once fit into \d{{3}} MiB", said)
    found, said = settled(recipe(memory=f"{sizes[-1] / 2 / 1000}KB"))
    assert found == "full" and said.startswith("all layers")
    assert re.search(r"come nearer to \d{3} MiB: they take \d{3} MiB", said)


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
    for drops in (0.0, 0.1):  # which keeps the scores of attention
        asked = recipe(memory="1400MB", micro_batch=16)
        model = asked.model.model_copy(update={"context_length": 512, "num_attention_heads": 8, "dropout": drops})
        asked = asked.model_copy(update={"model": model})
        with pytest.raises(AssertionError, match="a forecast was made") if drops else contextlib.nullcontext():
            assert settle_recomputed(asked, model, 4, CPU, "fp32") == ("none", "")


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


@pytest.mark.parametrize("wrong", ["16", "much", "", "0GiB", "-1GiB", 16, 8_000_000_000, 1.5, 400 * "9" + "GiB"])
def test_an_amount_of_memory_has_a_unit(wrong: object) -> None:
    with pytest.raises(RecipeError, match=r"train\.memory") as caught:
        recipe(memory=wrong)
    assert "write it with its unit, as 16GiB" in caught.value.remedy


@pytest.mark.parametrize("wrong", ["half", 0, -1, True, 1.5])
def test_layers_are_named_or_counted(wrong: object) -> None:
    with pytest.raises(RecipeError, match="activation_checkpointing") as caught:
        recipe(activation_checkpointing=wrong)
    assert "constrained" not in caught.value.remedy


WIDE = "model={preset: gpt2, num_hidden_layers: 3, num_attention_heads: 2, hidden_size: 64}"
SHAPE = [*SMALL, WIDE, "model.dropout=0.2", "model.context_length=64", "train.batch_tokens=2048"]


def final(run: Path) -> str:
    return hashes(run / "final")["model.safetensors"]


@pytest.mark.slow
def test_a_run_within_its_memory_has_the_same_bits_and_goes_on_with_other_layers(trained: Path, cli: Cli) -> None:
    shape, runs = [*SHAPE, "train.micro_batch=32"], trained / "runs"
    assert cli("train", "r.yaml", "--run", "runs/plain", sets=shape).code == 0
    found = [
        cli("check", "r.yaml", "--json", sets=[*shape, f"train.activation_checkpointing={layers}"]).json()
        for layers in ("none", 1, "full")
    ]
    taken = [one["forecast"]["run"]["memory"] for one in found]
    assert taken[0] > taken[1] + (1 << 20) > taken[2] + (2 << 20)
    tight = f"train.memory={(taken[1] + (1 << 19)) / 0.9 / 1000}KB"
    half = [*shape, tight, "train.epochs=null", "train.schedule={name: constant, warmup_steps: 0}"]
    for steps in (5, 12):
        said = cli("train", "r.yaml", "--run", "runs/tight", sets=[*half, f"train.steps={steps}"])
        assert said.code == 0 and re.search(r"step \d+  info: 1 of 3 layers are computed again", said.err)
        assert "that is more than train.memory: " in said.err, "the process of the tests itself is large"
    for layers, run in (("none", "free"), (2, "two")):
        free = [*half[:-3], *half[-2:], "train.steps=12", f"train.activation_checkpointing={layers}"]
        assert cli("train", "r.yaml", "--run", f"runs/{run}", sets=free).code == 0
        assert final(runs / run) == final(runs / "tight") != final(runs / "plain")
    over = cli("train", "r.yaml", "--run", "runs/over", sets=[*shape, "train.activation_checkpointing=4"])
    over.expect_fault(2, "activation_checkpointing 4", "has 3 layers", "a number up to 3")
    assert not (runs / "over").exists()


@pytest.mark.slow
def test_rows_that_were_chosen_stay_unless_the_memory_is_another(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = [*SHAPE, "train.activation_checkpointing=none"]
    monkeypatch.setattr(micro_rows, "_worth_measuring", lambda *_: False)
    monkeypatch.setattr(micro_rows, "_MOST", 1 << 34)
    assert "32 rows at once" in cli("train", "r.yaml", "--run", "runs/auto", sets=[*shape, "train.steps=2"]).err
    found = cli("check", "r.yaml", "--json", sets=[*shape, "train.micro_batch=8"]).json()["forecast"]["run"]
    less = [*shape, f"train.memory={(found['memory'] + (1 << 19)) / 0.9 / 1000}KB"]
    said = cli("train", "r.yaml", "--run", "runs/auto", sets=[*less, "train.steps=4"])
    state = json.loads((trained / "runs" / "auto" / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert said.code == 0 and state["identity"]["changed"] == ["limits", "rounding"]
    rows = int(re.findall(r"(\d+) rows at once", said.err)[-1])
    assert 8 <= rows < 32, "an evaluation was counted with those eight"
    again = cli("train", "r.yaml", "--run", "runs/auto", sets=[*less, "train.steps=6"])
    assert f" {rows} rows at once" in again.err
    monkeypatch.setattr(recomputed, "fits_by_far", lambda *_: False)
    settled = list[int | None]()

    def settle(*given: object) -> tuple[str, str]:
        settled.append(given[-1])  # type: ignore[arg-type]
        return "none", ""

    monkeypatch.setattr("tilth.jobs.train.settle_recomputed", settle)
    assert cli("train", "r.yaml", "--run", "runs/auto", sets=[*less, "train.steps=8"]).code == 0
    assert cli("train", "r.yaml", "--run", "runs/auto", sets=[*shape, "train.steps=8"]).code == 0
    assert settled == [rows, None], "layers are settled for the rows that stay"


@pytest.mark.slow
def test_a_model_for_which_there_is_too_little_is_refused_and_the_check_says_what_would_do(
    trained: Path, cli: Cli
) -> None:
    little = [*SHAPE, "train.memory=100MB", "train.micro_batch=8"]
    refused = cli("train", "r.yaml", "--run", "runs/little", sets=little)
    refused.expect_fault(2, "with a single row at once", "train.memory is 100MB", "raise train.memory (100MB)")
    least = cli("train", "r.yaml", "--run", "runs/little", sets=[*SHAPE, "train.memory=1MB"])
    least.expect_fault(
        2, "adamw keeps take 2 MiB, and train.memory is 1MB", "raise train.memory (1MB), or choose a smaller"
    )
    checked = cli("check", "r.yaml", "--json", sets=little)
    found = json.loads(checked.out.splitlines()[-1])
    assert checked.code == 2 and found["forecast"]["run"]["activation_checkpointing"] == "full"
    [fault] = [fault for fault in found["errors"] if fault["rule"] == "memory"]
    assert "train.memory is 100MB" in fault["message"] and "--fit 100MB`" in fault["remedy"]
    assert "activation_checkpointing" not in fault["remedy"], "all layers are computed again already"
    assert "layers computed again  all" in cli("check", "r.yaml", sets=little).out
    one = cli("check", "r.yaml", sets=[*SHAPE, "train.activation_checkpointing=1"])
    assert one.code == 0 and "layers computed again  the first 1" in one.out
