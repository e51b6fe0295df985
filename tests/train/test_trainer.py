"""What the loop does with steps that were skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train.helpers import make_trainer
from tilth.core.errors import DivergedError


def test_a_good_step_ends_a_row_of_skipped_ones_however_long(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision="fp16")
    trainer.progress.skipped_in_a_row = 50
    assert trainer.run() == "steps"
    assert trainer.progress.skipped_in_a_row == 0


def test_a_scale_that_will_not_come_right_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision="fp16")
    trainer.progress.skipped_in_a_row = 50
    trainer.parts.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    with pytest.raises(DivergedError, match="step 1: .*the update was not done"):
        trainer.run()
