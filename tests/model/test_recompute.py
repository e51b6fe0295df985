"""Activation checkpointing: the same bits for less memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import Tensor

from tilth.core.errors import RecipeError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig
from tilth.model.dropout import drawing
from tilth.model.precision import autocast
from tilth.model.recompute import Recomputed, recompute_layers
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
@pytest.mark.parametrize("number", [None, 2])
def test_gradients_are_the_same_bits_with_dropout_too(precision: str, adapter: bool, number: int | None) -> None:
    models = [model_of(0.3), model_of(0.3)]
    if adapter:
        for model in models:
            apply_adapter(model, AdapterConfig(rank=2, dropout=0.2), 1)
    recompute_layers(models[1], number)
    plain, again = (gradients(model.train(), precision) for model in models)
    assert plain.keys() == again.keys() and len(plain) > 3
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    without = model_of(0.0).train()
    assert adapter or not torch.equal(gradients(without, precision)["norm.weight"], plain["norm.weight"]), "it drops"


def kept(model: torch.nn.Module) -> int:
    """Numbers that a pass keeps for the way back."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(torch.zeros(2, 16, dtype=torch.int64))
    return sum(sizes)


def test_a_layer_keeps_its_input_alone_and_names_stay() -> None:
    models = [model_of(0.0).train() for _ in range(5)]
    for number, model in enumerate(models[:3], 1):
        recompute_layers(model, number)
    recompute_layers(models[4])
    *some, plain, full = map(kept, models)
    assert full < plain / 8 and some[2] == full
    assert plain - some[0] == some[0] - some[1] == some[1] - some[2] > plain / 4, "each as much as the next"
    assert [isinstance(layer.forward, Recomputed) for layer in models[1].layers] == [True, True, False]
    assert set(full_names := dict(models[4].named_parameters())) == set(dict(model_of(0.0).named_parameters()))
    assert not any("forward" in name for name in full_names)
    with torch.no_grad():
        ids = torch.ones(1, 4, dtype=torch.int64)
        assert torch.equal(models[4](ids), model_of(0.0)(ids))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt_neox", "bloom"])
def test_a_class_of_transformers_computes_its_first_layers_again(kind: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 64}
    sizes |= {"intermediate_size": 64} if kind == "gpt_neox" else {}
    theirs = transformers.AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(0)
    whole = transformers.AutoModelForCausalLM.from_config(theirs).state_dict()

    def model(number: int | None, recompute: bool = True) -> transformers.PreTrainedModel:
        hf = transformers.AutoModelForCausalLM.from_config(theirs).train()
        hf.load_state_dict(whole)
        if recompute:
            recompute_layers(SimpleNamespace(hf=hf), number)  # type: ignore[arg-type]
        return hf

    full, two, one, none = (kept(model(*asked)) for asked in ((None,), (2,), (1,), (None, False)))
    assert full < two < one < none
    with pytest.raises(RecipeError, match="4: the model has 3 layers"):
        model(4)

    def gradients(hf: transformers.PreTrainedModel) -> list[Tensor]:
        hf(torch.arange(16).view(2, 8)).logits.square().sum().backward()
        return [parameter.grad for parameter in hf.parameters() if parameter.grad is not None]

    assert all(map(torch.equal, gradients(model(2)), gradients(model(None, False))))
