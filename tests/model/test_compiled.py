"""Compiled layers: the numbers of plain ones, one graph for all of them, and nothing that a checkpoint would notice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tilth.core.environment import cache_folder
from tilth.core.errors import RecipeError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.attention import document_mask
from tilth.model.compiled import compile_layers, plain_layers, unsuited
from tilth.model.config import ModelConfig
from tilth.model.dropout import Dropout, drawing
from tilth.model.precision import DTYPES, autocast
from tilth.model.recompute import recompute_layers
from tilth.model.transformer import Transformer, build

CPU = torch.device("cpu")
CACHE = cache_folder() / "compiled"  # kept between runs of the tests, as between runs of tilth
DOCUMENTS = document_mask(torch.arange(16)[None].expand(4, -1) // 5)


def model_of(dropout: float, length: int = 16, window: int | None = None) -> Transformer:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "context_length": length}
    return build(ModelConfig(preset="gpt2", vocab_size=50, dropout=dropout, sliding_window=window, **shape), 1).train()


def gradients(model: Transformer, rows: int = 4, precision: str = "fp32", mask: Tensor | None = None) -> Tensor:
    """Loss and gradients of a pass, in one vector."""
    length = model.config.positions
    ids = torch.arange(rows * length).view(rows, length) % 50
    with drawing(3, 0, rows), autocast(precision, CPU):  # type: ignore[arg-type]
        loss = model(ids, None, mask).float().square().mean()
        loss.backward()
    found = [loss.detach(), *(p.grad.flatten() for p in model.parameters() if p.grad is not None)]
    model.zero_grad(set_to_none=True)
    return torch.cat([part.reshape(-1) for part in found])


@pytest.mark.slow
def test_one_graph_for_all_layers_gives_the_numbers_of_plain_ones() -> None:
    plain, compiled, again = model_of(0.3), model_of(0.3), model_of(0.3)
    recompute_layers(again)
    names = list(plain.state_dict())
    made = counters["stats"]["unique_graphs"]
    for model in (compiled, again):
        compile_layers(model, CACHE)
    expected, found = gradients(plain), gradients(compiled)
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-6) and not torch.equal(expected, gradients(model_of(0)))
    assert counters["stats"]["unique_graphs"] == made + 1
    assert torch.equal(found, gradients(again)), "what is done again is the compiled layer"
    gradients(compiled, rows=2)  # another graph
    assert counters["stats"]["unique_graphs"] == made + 2
    assert torch.equal(found, gradients(compiled)), "the graph of these rows is the one that it was"
    assert list(compiled.state_dict()) == names
    assert all(module.kept is None for module in compiled.modules() if isinstance(module, Dropout))
    with torch.no_grad():  # evaluation is not compiled: to the bit
        ids = torch.ones(1, 7, dtype=torch.int64)
        assert torch.equal(compiled.eval()(ids), plain.eval()(ids))
    plain_layers(compiled.train())
    assert torch.equal(expected, gradients(compiled)), "as it was"


@pytest.mark.slow
def test_documents_apart_in_bf16() -> None:
    plain, compiled = model_of(0.0), model_of(0.0)
    compile_layers(compiled, CACHE)
    expected, found = (gradients(model, 4, "bf16", DOCUMENTS) for model in (plain, compiled))
    exact, other = gradients(plain, 4, "fp32", DOCUMENTS), gradients(plain, 4, "fp32")
    assert (found - exact).norm() < 2 * (expected - exact).norm(), "as far from fp32 as bf16 is"
    assert (found - other).norm() > 3 * (found - exact).norm(), "the mask is read"


@pytest.mark.slow
def test_windows_in_rows_that_go_through_in_chunks() -> None:
    plain, compiled, whole = model_of(0.0, 400, 100), model_of(0.0, 400, 100), model_of(0.0, 400)
    compile_layers(compiled, CACHE)
    expected, found, other = (gradients(model, 2) for model in (plain, compiled, whole))
    assert (found - expected).norm() < 1e-5 * expected.norm() < 1e-2 * (found - other).norm()


@pytest.mark.slow
def test_a_mask_whose_values_decide_is_refused_with_a_remedy() -> None:
    compiled = model_of(0.0, 400)
    compile_layers(compiled, CACHE)
    with pytest.raises(RecipeError, match="could not be compiled") as refused:
        gradients(compiled, 2, mask=document_mask(torch.arange(400)[None].expand(2, -1) // 90))
    assert "train.compile: false" in refused.value.remedy


SOME = ["q_proj", "down_proj"]
ADAPTERS: list[tuple[str, dict[str, Any]]] = [
    ("fp32", {"rslora": True}),
    ("bf16", {"dropout": 0.3}),
    ("fp32", {"targets": SOME, "dropout": 0.2}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "changes"), ADAPTERS, ids=["all", "dropout", "some"])
def test_layers_with_an_adapter(precision: str, changes: dict[str, Any]) -> None:
    plain, compiled = adapted(changes, precision), adapted(changes, precision)
    made = counters["stats"]["unique_graphs"]
    compile_layers(compiled, CACHE)
    expected, found = gradients(plain, precision=precision), gradients(compiled, precision=precision)
    assert counters["stats"]["unique_graphs"] <= made + 2, "the first layer's input bears no gradient"
    if precision == "fp32":
        assert torch.allclose(expected, found, rtol=1e-4, atol=1e-6) and not torch.equal(expected, found)
        whole = gradients(adapted({**changes, "dropout": 0.0}, precision))
        assert ("dropout" in changes) != torch.allclose(whole, found, rtol=1e-4, atol=1e-6), "what it drops is read"
    else:
        exact = gradients(adapted(changes, "fp32"))
        assert (found - exact).norm() < 2 * (expected - exact).norm(), "as far from fp32 as bf16 is"
    with torch.no_grad():
        row = torch.ones(1, 7, dtype=torch.int64)
        assert torch.equal(compiled.eval()(row), plain.eval()(row))


def adapted(changes: dict[str, Any], precision: str) -> Transformer:
    model = model_of(0.1)
    apply_adapter(model, AdapterConfig(rank=4, **changes), 1, dtype=DTYPES.get(precision))  # type: ignore[call-overload]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model.train()


def test_what_cannot_be_compiled_is_said() -> None:
    config = model_of(0.0).config
    assert unsuited(config, None) is None and unsuited(config, AdapterConfig(dropout=0.1)) is None
    assert "four bits" in (unsuited(config, AdapterConfig(quantize="nf4")) or "")
    assert "DoRA" in (unsuited(config, AdapterConfig(dora=True)) or "")


def test_the_cache_that_the_user_named_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    compile_layers(model_of(0.0), CACHE)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "own")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    compile_layers(model_of(0.0), tmp_path / "ours")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "ours")
