"""Packed rows and hidden tokens: a run that goes on ends with the bits of the one that was never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import make_stream
from tests.training.helpers import equal, make_trainer, train_config, weights
from tilth.core.errors import CheckpointError
from tilth.core.rundir import Event, StepRecord
from tilth.data.batches.masking import Masker, MaskingConfig
from tilth.data.batches.packing import PackingConfig
from tilth.data.batches.sampling import make_sampler
from tilth.data.shards import TokenStream
from tilth.training.trainer import Trainer

SPLIT = PackingConfig(too_long="split")


def trainer_of(folder: Path, stream: TokenStream, packed: bool, masked: bool, events: list[Event]) -> Trainer:
    packing = SPLIT if packed else None
    sampler = make_sampler(stream, 8, 0, packing=packing, isolate=True, ahead=0 if masked else 1)
    special = np.arange(130) == 129
    masker = Masker(MaskingConfig(), 0, 129, special) if masked else None
    config = train_config(steps=8, optimizer={"name": "adamw", "lr": 3e-3})
    return make_trainer(folder, config, events, sampler=sampler, masker=masker)


@pytest.mark.parametrize(("packed", "masked"), [(True, False), (False, True), (True, True)])
@pytest.mark.slow
def test_going_on_gives_the_same_bits(tmp_path: Path, packed: bool, masked: bool) -> None:
    stream = make_stream(tmp_path / "data", [[12, 5, 1, 30], [3, 9, 9, 9, 20]], 129)
    events: list[Event] = []
    whole = trainer_of(tmp_path, stream, packed, masked, events)
    whole.run()
    losses = [event.loss for event in events if isinstance(event, StepRecord)]
    assert len(losses) == 8 and np.isfinite(losses).all() and len(set(losses)) == 8
    for step in (1, 4, 7):
        again = trainer_of(tmp_path, stream, packed, masked, [])
        again.restore(again.parts.store.at(step))
        again.run()
        assert equal(weights(again), weights(whole)), f"after step {step}"
    other = trainer_of(tmp_path, stream, not packed, masked, [])
    with pytest.raises(CheckpointError, match="packing"):
        other.restore(whole.parts.store.at(4))
