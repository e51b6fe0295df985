"""What a recipe puts on a model is the same in training and on paper; what cannot be put on it is told by the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import Cli
from tilth.jobs.base import find_base, with_base
from tilth.jobs.forecasting import paper_run
from tilth.jobs.forecasting.paper_run import PaperRun
from tilth.jobs.recipe import load_recipe
from tilth.jobs.start import loaded_base, starting_model
from tilth.model.recompute import Recomputed
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel
from tilth.training.meter import Paper

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def held(model: AnyModel) -> dict[str, tuple[list[int], torch.dtype, bool]]:
    """All that it holds: shape, type, and whether it trains."""
    assert isinstance(model, Transformer)
    assert all(isinstance(layer.forward, Recomputed) for layer in model.layers)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (list(one.shape), one.dtype, one.requires_grad) for name, one in tensors.items()}


@pytest.mark.parametrize("adapter", [None, {"rank": 2, "dora": True}, {"rank": 2, "quantize": "nf4"}])
def test_the_forecast_is_of_the_model_that_trains(
    adapter: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base", "llama")
    train = {"freeze": ["layers.0.self_attn.*"], "activation_checkpointing": "full", "precision": "bf16"}
    asked = load_recipe(tuning(tmp_path, "base", train=train, adapter=adapter))
    base = find_base(asked)
    assert base is not None
    recipe = with_base(asked, base)
    trained, _ = starting_model(recipe, loaded_base(recipe, base, CPU), base.config, CPU, "bf16")
    with Paper():
        on_paper = paper_run._model(PaperRun(recipe, base.config, 1, 2, 0, CPU, "bf16"))
    assert held(on_paper) == held(trained)
    assert {trains for *_, trains in held(trained).values()} == {True, False}


def test_a_class_that_cannot_recompute_is_told_before_a_step(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "base", "phi")
    tuning(tmp_path, "base", train={"activation_checkpointing": "full"})
    assert cli("check", "r.yaml").code == 0
    monkeypatch.setattr(transformers.PhiForCausalLM, "supports_gradient_checkpointing", False)
    for command in ("check", "train"):
        wrong = cli(command, "r.yaml")
        assert wrong.code == 2 and "PhiForCausalLM of transformers does not know how" in " ".join(
            (wrong.out + wrong.err).split()
        )
    assert not (tmp_path / "runs").exists(), "refused before a run folder is made"
