"""What cannot fit into memory is told before anything is allocated, and what did not fit in words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.jobs.forecasting import forecast_run, room
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.forecasting.room import least_bytes, memory_errors
from tilth.jobs.recipe import load_recipe
from tilth.model.adapter_config import AdapterConfig
from tilth.model.config import parameter_count


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("model.num_hidden_layers=100000000", ("parameters", "GiB", "smaller model.hidden_size")),
        ("model.hidden_size=20000000", ("parameters", "GiB", "smaller model.hidden_size")),
        (
            "train.batch_tokens=160000000000000",
            ("train.batch_tokens 160,000,000,000,000", "smaller train.batch_tokens"),
        ),
        ("train.batch_tokens=16000000000000000000000000", ("one batch takes", "smaller train.batch_tokens")),
    ],
)
def test_what_no_machine_holds_is_refused_at_once(tmp_path: Path, cli: Cli, value: str, parts: tuple[str, ...]) -> None:
    write_recipe(tmp_path / "r.yaml", "nowhere")
    started = time.perf_counter()
    cli("train", "r.yaml", sets=[*SMALL, value]).expect_fault(2, *parts)
    assert time.perf_counter() - started < 5
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"], "before the sources are looked for"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["model.num_hidden_layers=100000000", "model.hidden_size=1099511627776"])
def test_check_tells_it_once_and_does_not_lay_it_out(tmp_path: Path, cli: Cli, value: str) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts")
    said = cli("check", "r.yaml", "--json", sets=[*SMALL, value])
    [error] = [
        error for error in json.loads(said.out.splitlines()[-1])["errors"] if error["rule"] in ("memory", "model")
    ]
    assert said.code == 2 and "parameters: weights" in error["message"] and "smaller preset" in error["remedy"]


@pytest.mark.slow
def test_the_vocabulary_counts_as_soon_as_it_is_known(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", documents=30)
    write_recipe(tmp_path / "r.yaml", "texts")
    config = load_recipe(tmp_path / "r.yaml", SMALL).model
    without, with_it = (parameter_count(config.model_copy(update={"vocab_size": size})) for size in (1, 257))
    # AdamW: four numbers of four bytes for each parameter; the layers fit into this machine, the embedding does not.
    monkeypatch.setattr(room, "total_memory_bytes", lambda: 16 * with_it - 1)
    cli("train", "r.yaml", sets=SMALL).expect_fault(2, f"the model has {with_it:,} parameters")
    assert list((tmp_path / "work" / "datasets").iterdir()), "its tokenizer had to be made to know"
    assert not (tmp_path / "runs" / "small" / "recipe.json").exists()
    monkeypatch.setattr(room, "total_memory_bytes", lambda: 16 * with_it)
    with monkeypatch.context() as patch:
        patch.setattr("tilth.jobs.train.check_one_row", lambda *_: None)  # the process itself does not fit
        assert cli("train", "r.yaml", sets=SMALL).code == 0
    monkeypatch.setattr(room, "total_memory_bytes", lambda: 16 * without - 1)
    cli("train", "r.yaml", "--run", "other", sets=SMALL).expect_fault(2, f"the model has {without:,} parameters")


@pytest.mark.slow
def test_a_row_that_cannot_fit_is_refused_before_the_model_is_made(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", documents=60)
    write_recipe(tmp_path / "r.yaml", "texts")
    sets = [*SMALL, "model.context_length=512", "train.batch_tokens=512"]
    monkeypatch.setattr(room, "room_of", lambda device: 8 << 20)
    words = ("model.context_length 512: training takes 3", "with a single row", "(process: 347 MiB)", "cpu has 8 MiB")
    said = cli("train", "r.yaml", sets=sets).expect_fault(2, *words, "remedy: choose a smaller model.hidden_size")
    assert "smaller model.context_length" not in said, "that would not help"
    for part in ("PROCESS", "LOADED"):
        monkeypatch.setattr(forecast_run, part, 0)
    monkeypatch.setattr(room, "room_of", lambda device: 1 << 20)
    kept = [*sets, "train.activation_checkpointing=none"]
    said = cli("train", "r.yaml", sets=kept).expect_fault(
        2, "activations: ", "remedy: set a smaller model.context_length"
    )
    assert "train.activation_checkpointing: full" in said
    monkeypatch.undo()
    monkeypatch.setattr(room, "room_of", lambda device: 4 << 30)
    assert cli("train", "r.yaml", sets=[*sets, "train.steps=1"]).code == 0, "the same run, where there is room"


def test_memory_that_is_refused_is_told_with_what_helps() -> None:
    with pytest.raises(RecipeError, match="out of memory with 8 rows at once: ") as caught, memory_errors(lambda: 8):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "--set train.micro_batch=4" in caught.value.remedy
    with pytest.raises(RecipeError, match="out of memory with 1 row at once: ") as caught, memory_errors(lambda: 1):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "smaller preset" in caught.value.remedy
    with pytest.raises(RuntimeError, match="shape"), memory_errors(lambda: 1):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.slow
def test_beside_an_adapter_weights_count_as_they_are_held_and_loaded(tmp_path: Path) -> None:
    """By least needs and by the forecast alike: never all of them in fp32, but some of them are."""
    model = {"num_hidden_layers": 8, "num_attention_heads": 4, "hidden_size": 512, "context_length": 8}
    write_recipe(tmp_path / "r.yaml", "texts", model=model, train={"batch_tokens": 8, "precision": "bf16"})
    plain = load_recipe(tmp_path / "r.yaml")
    config = plain.model.model_copy(update={"vocab_size": 500})
    rows, rest, largest = 500 * 512, parameter_count(config) - 500 * 512, 512 * config.mlp_size
    assert least_bytes(plain, config) == 16 * (rows + rest)
    for quantize, least in ((None, 2 * rest), ("nf4", rest // 2 + 4 * largest)):
        adapter = parse(AdapterConfig, {"rank": 1, "quantize": quantize})
        recipe = plain.model_copy(update={"adapter": adapter, "model": config})
        assert least_bytes(recipe, config) == 4 * rows + least
        parts = memory_forecast(recipe, config, 1, torch.device("cpu"), precision="bf16", rows=1, held_out=0).parts
        assert parts["weights"] < 2.4 * (rows + rest), "when they are loaded, too"
