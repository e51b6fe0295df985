"""Adapters beside the same model as PEFT's: outputs, gradients, merging; and what holds of them by themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import nn

from tests.model.adapter_helpers import falcon, gpt2, ids, llama, ours, peft_quietly, scores, shake
from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import (
    adapter_names,
    apply_adapter,
    choose,
    lora_layers,
    merge,
    merge_and_unload,
    unmerge,
)
from tilth.model.lora import LoraLinear, LoraPart

VARIANTS: list[dict[str, Any]] = [{}, {"rslora": True}, {"dora": True}, {"dora": True, "rslora": True}]
Make = Callable[[], Any]


def config(**changes: Any) -> AdapterConfig:
    return parse(AdapterConfig, {"rank": 4, "alpha": 8, **changes})


def beside_peft(make: Make, wanted: AdapterConfig) -> tuple[Any, Any, list[tuple[nn.Parameter, nn.Parameter]]]:
    """Two copies of a model with equal adapters, tilth's and PEFT's, and their parameters in pairs."""
    mine, theirs = make(), make()
    apply_adapter(mine, wanted, 1)
    options = peft.LoraConfig(
        r=wanted.rank,
        lora_alpha=int(wanted.alpha),
        lora_dropout=wanted.dropout,
        target_modules="all-linear",
        use_rslora=wanted.rslora,
        use_dora=wanted.dora,
        fan_in_fan_out=make is gpt2,
        task_type="CAUSAL_LM",
    )
    theirs = peft_quietly(peft.get_peft_model, theirs, options)
    shake(mine)
    named, pairs = dict(theirs.named_parameters()), []
    for path, layer in lora_layers(mine).items():
        assert layer.part is not None
        for key, parameter in layer.part.named_parameters():
            theirs_key = {"magnitude": "lora_magnitude_vector"}.get(key, key)
            other = named[f"base_model.model.{path}.{theirs_key}.default.weight"]
            other.data.copy_(parameter.data)
            pairs.append((parameter, other))
    assert len(pairs) == sum(parameter.requires_grad for parameter in theirs.parameters())
    return mine, theirs, pairs


@pytest.mark.parametrize("make", [gpt2, llama, falcon])
@pytest.mark.parametrize("changes", VARIANTS)
def test_outputs_and_gradients_equal_pefts(make: Make, changes: dict[str, Any]) -> None:
    mine, theirs, pairs = beside_peft(make, config(**changes))
    results = [model(input_ids=ids(), labels=ids()) for model in (mine, theirs)]
    torch.testing.assert_close(results[0].logits, results[1].logits, atol=1e-5, rtol=1e-5)
    for result in results:
        result.loss.backward()
    for own, other in pairs:
        assert own.grad is not None and other.grad is not None and other.grad.any()
        torch.testing.assert_close(own.grad, other.grad, rtol=0, atol=2e-5 * float(other.grad.abs().max()))


def test_dropout_is_pefts_under_the_same_seed() -> None:
    mine, theirs, _ = beside_peft(llama, config(dropout=0.4))
    outputs = []
    for model in (mine.train(), theirs.train()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            outputs.append(model(ids()).logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(outputs[0], mine.eval()(ids()).logits, atol=1e-3), "dropout is drawn"


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_new_adapter_changes_nothing(changes: dict[str, Any]) -> None:
    model = ours(llama())
    before = scores(model)
    apply_adapter(model, config(**changes), 1)
    torch.testing.assert_close(scores(model), before, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "changes", [*VARIANTS, {"dropout": 0.5}, {"quantize": "nf4"}, {"quantize": "nf4", "dora": True}]
)
def test_gradients_are_those_of_finite_differences(changes: dict[str, Any]) -> None:
    wanted = config(**changes)
    layer = LoraLinear(nn.Linear(6, 5).double().requires_grad_(False))
    part = LoraPart(wanted.rank, wanted.alpha, (6, 5), rslora=wanted.rslora, dropout=wanted.dropout)
    layer.add("a", part)
    part.initialise(1, "layer")
    if wanted.quantize:
        layer.quantize(True, "layer")
    shake(part)
    if wanted.dora:
        part.magnitude = nn.Parameter(layer.lengths(part) * 1.3)
    layer.chosen = "a"
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    # The length of the adapted rows counts as a constant in DoRA, so it is held while A and B are varied.
    lengths = layer.lengths(part)
    layer.lengths = lambda part: lengths  # type: ignore[method-assign]

    def output(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            out: torch.Tensor = layer(x)
            return out

    assert torch.autograd.gradcheck(output, (x, *part.parameters()))


def test_weights_held_in_the_precision_of_products_change_no_bit() -> None:
    results = []
    for dtype in (None, torch.bfloat16):
        model = ours(llama())
        apply_adapter(model, config(), 1, dtype=dtype)
        shake(model)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(ids())
        hidden.float().square().sum().backward()
        layer = lora_layers(model)["layers.0.self_attn.q_proj"]
        results.append((layer.weight, hidden, [p.grad for p in model.parameters() if p.grad is not None]))
    (plain, first, gradients), (held, second, others) = results
    assert plain.dtype == torch.float32 and held.dtype == torch.bfloat16 and first.dtype == torch.bfloat16
    assert torch.equal(first, second)
    assert gradients and all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


@pytest.mark.parametrize("changes", [*VARIANTS, {"quantize": "nf4"}, {"quantize": "nf4", "dora": True}])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_merging_computes_the_same_and_is_undone_to_the_bit(make: Make, changes: dict[str, Any]) -> None:
    model = make() if make is gpt2 else ours(make())  # Conv1D and Linear
    apply_adapter(model, config(**changes), 1)
    shake(model)
    before, state = scores(model), copy.deepcopy(model.state_dict())
    held = [layer.held for layer in lora_layers(model).values()]
    merge(model)
    assert all(
        isinstance(layer.held, nn.Parameter) and layer.held is not was
        for layer, was in zip(lora_layers(model).values(), held, strict=True)
    )
    torch.testing.assert_close(scores(model), before, atol=1e-5, rtol=1e-5)
    with pytest.raises(RecipeError, match="unmerge it first"):
        choose(model, None)
    unmerge(model)
    after = model.state_dict()
    assert after.keys() == state.keys() and all(torch.equal(after[name], value) for name, value in state.items())
    assert torch.equal(scores(model), before)
    merge_and_unload(model)
    assert not lora_layers(model) and adapter_names(model) == []
    assert model.state_dict().keys() == (make() if make is gpt2 else ours(make())).state_dict().keys()
    torch.testing.assert_close(scores(model), before, atol=1e-5, rtol=1e-5)


def test_one_of_several_adapters_works_and_the_base_stays() -> None:
    model = ours(llama(tied=True))
    base, outputs = scores(model), {}
    plans = {
        "a": config(),
        "b": config(rank=2, targets=["q_proj"], modules_to_save=["embed_tokens"]),
        "c": config(dora=True),
    }
    for seed, (name, wanted) in enumerate(plans.items()):
        apply_adapter(model, wanted, seed, name=name)
        shake(model, seed)
        outputs[name] = scores(model)
    assert len({tuple(output.flatten().tolist()) for output in outputs.values()}) == 3
    for name in ("b", None, "a", "c", "a", None, "b"):
        choose(model, name)
        assert torch.equal(scores(model), base if name is None else outputs[name])
        assert not any(parameter.requires_grad for parameter in model.parameters())
    choose(model, "b", trainable=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert (
        all(".adapters.b." in name for name in trained - {"embed_tokens.weight"}) and "embed_tokens.weight" in trained
    )
    assert model.output_weight is model.embed_tokens.weight, "what is tied stays tied"
    with pytest.raises(RecipeError, match="has no adapter 'd'"):
        choose(model, "d")
    with pytest.raises(RecipeError, match="there is an adapter 'a' already"):
        apply_adapter(model, config(), 1, name="a")


def test_a_is_drawn_from_seed_and_layer_alone() -> None:
    state = torch.random.get_rng_state()
    drawn = {}
    for key, seed, targets in (
        ("all", 1, "all-linear"),
        ("one", 1, ["layers.1.mlp.up_proj"]),
        ("other", 2, ["up_proj"]),
    ):
        model = ours(llama())
        apply_adapter(model, config(targets=targets), seed)
        part = lora_layers(model)["layers.1.mlp.up_proj"].part
        assert part is not None and not part.lora_B.any()
        drawn[key] = part.lora_A.detach()
    assert torch.equal(drawn["all"], drawn["one"]) and not torch.equal(drawn["one"], drawn["other"])
    bound = 1 / 32**0.5
    assert float(drawn["all"].abs().max()) <= bound and drawn["all"].std() == pytest.approx(bound / 3**0.5, rel=0.2)
    assert torch.equal(torch.random.get_rng_state(), state), "nothing draws from the global generator"


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["q_proj"], ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"]),
        (["layers.1.mlp.*"], ["layers.1.mlp.gate_proj", "layers.1.mlp.up_proj", "layers.1.mlp.down_proj"]),
        (["layers.[1-9].self_attn.[kv]_proj"], ["layers.1.self_attn.k_proj", "layers.1.self_attn.v_proj"]),
    ],
)
def test_targets_are_names_and_patterns(targets: list[str], layers: list[str]) -> None:
    applied = apply_adapter(model := ours(llama()), config(targets=targets), 1)
    assert applied.layers == layers and list(lora_layers(model)) == layers
    assert applied.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = apply_adapter(ours(llama()), config(), 1)
    assert len(everything.layers) == 14 and "lm_head" not in everything.layers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": ["q_prj"]}, "did you mean 'q_proj'?"),
        ({"targets": ["q_proj", "fc1"]}, "adapter.targets: 'fc1' names none of the model's linear layers"),
        ({"targets": ["lm_head"]}, "there are self_attn.q_proj, self_attn.k_proj"),
        ({"targets": ["embed_tokens"]}, "adapter.targets: 'embed_tokens' names none"),
        ({"modules_to_save": ["wte"]}, "adapter.modules_to_save: 'wte' names none of the model's modules"),
        ({"modules_to_save": ["up_proj"]}, "names layers.0.mlp.up_proj, which adapter.targets names too"),
    ],
)
def test_names_that_stand_for_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    model = ours(llama())
    with pytest.raises(RecipeError) as caught:
        apply_adapter(model, config(**changes), 1)
    assert said in str(caught.value)
    assert not lora_layers(model) and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": []}, "targets is empty"),
        ({"targets": ["q_proj", " "]}, "holds an empty name"),
        ({"targets": "q_proj"}, "targets"),
        ({"rank": 0}, "rank"),
        ({"double_quantize": False}, "double_quantize has no meaning without quantize"),
        ({"quantize": "int8"}, "quantize"),
        ({"r": 8}, "r: unknown key"),
    ],
)
def test_impossible_adapters_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        config(**changes)
    assert said in str(caught.value)


class Same(nn.Linear):
    """As Falcon's layers: another way to the same numbers."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y = input @ self.weight.T
        return y if self.bias is None else y + self.bias


class Scored(nn.Linear):
    """As a router: more than a product."""

    def forward(self, input: torch.Tensor) -> Any:
        return super().forward(input), None


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Noisy(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input + 0.1 if self.training else input)


def test_layers_of_a_further_kind_get_an_adapter_where_they_compute_the_same() -> None:
    kinds: list[Any] = [nn.Linear, Same, Scored, Doubled, Noisy, nn.modules.linear.NonDynamicallyQuantizableLinear]
    model = nn.ModuleDict({kind.__name__: kind(4, 4) for kind in kinds}).eval()
    model["Same8"] = Same(8, 2, bias=False, device="meta")
    state = torch.get_rng_state()
    assert apply_adapter(model, config(), 1).layers == ["Linear", "Same", "Same8"]
    assert torch.equal(state, torch.get_rng_state()) and not model["Scored"].training
    with pytest.raises(RecipeError, match="no linear layer that an adapter could stand beside"):
        apply_adapter(nn.ModuleDict({"other": Doubled(4, 4)}), config(), 1)
