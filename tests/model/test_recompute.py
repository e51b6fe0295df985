"""Activation checkpointing: the same bits for less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig
from tilth.model.dropout import drawing
from tilth.model.precision import autocast
from tilth.model.recompute import recompute_layers
from tilth.model.transformer import Transformer, build

CPU = torch.device("cpu")


def model_of(dropout: float) -> Transformer:
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 32, "context_length": 16}
    return build(ModelConfig(preset="gpt2", vocab_size=50, dropout=dropout, **shape), 1)


def gradients(model: Transformer, precision: str) -> dict[str, Tensor]:
    ids = torch.arange(32).view(2, 16)
    with drawing(3, 0, 2), autocast(precision, CPU):  # type: ignore[arg-type]
        model(ids).float().square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adapter", [False, True])
def test_gradients_are_the_same_bits_with_dropout_too(precision: str, adapter: bool) -> None:
    models = [model_of(0.3), model_of(0.3)]
    if adapter:
        for model in models:
            apply_adapter(model, AdapterConfig(rank=2, dropout=0.2), 1)
    recompute_layers(models[1])
    plain, again = (gradients(model.train(), precision) for model in models)
    assert plain.keys() == again.keys() and len(plain) > 3
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    without = model_of(0.0).train()
    assert adapter or not torch.equal(gradients(without, precision)["norm.weight"], plain["norm.weight"]), "it drops"


def test_a_layer_keeps_its_input_alone_and_names_stay() -> None:
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    sums = []
    for recompute in (False, True):
        model, names = model_of(0.0).train(), set(model_of(0.0).state_dict())
        if recompute:
            recompute_layers(model)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(torch.zeros(2, 16, dtype=torch.int64))
        sums.append(sum(kept))
        assert set(model.state_dict()) == names
    assert sums[1] < sums[0] / 8
    with torch.no_grad():
        assert torch.equal(
            model(torch.ones(1, 4, dtype=torch.int64)), model_of(0.0)(torch.ones(1, 4, dtype=torch.int64))
        )
