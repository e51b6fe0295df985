"""Classes of transformers' that go by numbers cannot be run on paper: they train without a forecast, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import Cli
from tests.model.families import quiet

pytestmark = pytest.mark.slow


def test_a_mixture_of_experts_is_checked_and_trained_without_a_forecast(tmp_path: Path, cli: Cli) -> None:
    write_base(tmp_path / "base", "neox")  # for its tokenizer
    vocabulary = transformers.AutoConfig.from_pretrained(tmp_path / "base").vocab_size
    config = transformers.OlmoeConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
    )
    for path in [*(tmp_path / "base").glob("*.safetensors"), tmp_path / "base" / "config.json"]:
        path.unlink()
    with quiet():
        torch.manual_seed(0)
        transformers.OlmoeForCausalLM(config).save_pretrained(tmp_path / "base")
    tuning(tmp_path, "base", train={"steps": 2})
    checked = cli("check", "r.yaml", "--json")
    assert checked.json()["ok"] and checked.json()["forecast"]["run"] is None, checked.err
    assert "cannot be run without numbers" in cli("check", "r.yaml").out
    trained = cli("train", "r.yaml", "--json")
    assert trained.json()["step"] == 2 and "OlmoeForCausalLM of transformers' cannot be run" in trained.err
    assert "Traceback" not in checked.err + trained.err


@pytest.mark.parametrize("kind", ["neox", "bloom", "phi"])
def test_others_have_one(tmp_path: Path, cli: Cli, kind: str) -> None:
    write_base(tmp_path / "base", kind)
    tuning(tmp_path, "base", train={"steps": 2})
    run = cli("train", "r.yaml", "--json").json()["forecast"]
    assert run["memory"] == pytest.approx(run["actual"]["memory"], rel=0.25)
