"""New tokens, and what is frozen by name."""

from __future__ import annotations

import pytest
import torch

from tests.model.adapter_helpers import VOCAB, ids, llama, ours, tied_llama
from tilth.core.errors import RecipeError
from tilth.model.freezing import freeze
from tilth.model.resize import resize_embeddings


@pytest.mark.parametrize(
    ("make", "grown"), [(llama, ["embed_tokens.weight", "lm_head.weight"]), (tied_llama, ["embed_tokens.weight"])]
)
def test_new_rows_are_the_mean_and_old_ones_stay(make: object, grown: list[str]) -> None:
    assert callable(make)
    model, again = ours(make()), ours(make())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logits = model.logits(model(ids()))
    state = torch.random.get_rng_state()
    resized = resize_embeddings(model, VOCAB + 5, 1)
    assert (resized.before, resized.now, resized.added, resized.grown) == (50, 55, 5, grown)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        if name not in grown:
            assert torch.equal(parameter, before[name])
            continue
        assert parameter.shape == (55, 32) and torch.equal(parameter[:50], before[name])
        mean, deviation = before[name].mean(0), before[name].std(0)
        assert ((parameter[50:] - mean).abs() < 0.006 * deviation).all()
        assert len(parameter[50:].unique(dim=0)) == 5, "no two are alike"
    assert model.config.vocabulary == 55 and model.logits(model(ids())).shape[-1] == 55
    torch.testing.assert_close(model.logits(model(ids()))[..., :50], logits)
    assert model.embed_tokens.num_embeddings == 55
    resize_embeddings(again, VOCAB + 5, 2)
    assert not torch.equal(again.embed_tokens.weight, model.embed_tokens.weight)


def test_as_many_ids_change_nothing_and_fewer_are_refused() -> None:
    model = ours(llama())
    weight = model.embed_tokens.weight
    assert resize_embeddings(model, VOCAB, 1).added == 0 and model.embed_tokens.weight is weight
    with pytest.raises(RecipeError, match="the model has 50 ids, and 49 would lose 1"):
        resize_embeddings(model, VOCAB - 1, 1)


def test_freezing_takes_modules_parameters_and_patterns() -> None:
    model = ours(llama())
    count = freeze(model, ["embed_tokens", "layers.0", "*.k_proj", "post_attention_layernorm.weight"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert count == sum(model.get_parameter(name).numel() for name in frozen)
    assert {name for name in frozen if not name.startswith("layers.0.")} == {
        "embed_tokens.weight",
        "layers.1.self_attn.k_proj.weight",
        "layers.1.post_attention_layernorm.weight",
    }


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["layer.0"], "'layer.0' names no module and no parameter"),
        (["embed"], "there are embed_tokens, layers"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_freezing_nothing_or_all_is_refused(patterns: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        freeze(ours(llama()), patterns)
    assert said in str(caught.value)
