"""A checkpoint holds what trains, and knows which base that belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.model.adapter_helpers import ours, shake, tied_llama
from tilth.checkpoint.trainable import base_fingerprint, check_base, load_trainable, trainable_state
from tilth.core.errors import CheckpointError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.freezing import freeze

PLACE = Path("checkpoints/step-00000001")


def test_all_of_a_model_that_trains_whole_is_saved() -> None:
    model = ours(tied_llama())
    assert trainable_state(model).keys() == model.state_dict().keys()


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_an_adapter_is_saved_and_its_base_is_not(quantize: str | None) -> None:
    wanted = AdapterConfig.model_validate({"rank": 2, "quantize": quantize, "modules_to_save": ["embed_tokens"]})
    model, again = ours(tied_llama()), ours(tied_llama())
    for one in (model, again):
        apply_adapter(one, wanted, 1)
    shake(model)
    state = trainable_state(model)
    assert len(state) == 2 * 14 + 1 and "embed_tokens.weight" in state
    load_trainable(again, state, PLACE)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    state.pop("embed_tokens.weight")
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is missing"):
        load_trainable(again, state, PLACE)


def test_frozen_parameters_are_not_saved() -> None:
    model = ours(tied_llama())
    freeze(model, ["embed_tokens", "layers.0"])
    state = trainable_state(model)
    assert state and all(name.startswith(("layers.1.", "norm.")) for name in state)
    with pytest.raises(CheckpointError, match=r"(?s)embed_tokens.weight is missing.*the same parameters frozen"):
        load_trainable(ours(tied_llama()), state, PLACE)


def test_the_fingerprint_is_of_names_shapes_and_values() -> None:
    model = ours(tied_llama()).bfloat16()
    first = base_fingerprint(model)
    assert base_fingerprint(model.float()) == first, "the same values in another precision"
    check_base(first, base_fingerprint(model), PLACE)
    weight = model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
    changed = base_fingerprint(model)
    assert changed != first
    with pytest.raises(CheckpointError, match=f"was {first[:12]}, and is now {changed[:12]}"):
        check_base(first, changed, PLACE)
