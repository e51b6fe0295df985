"""Training beside a frozen base: what gets gradients, that it learns, and that it goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tilth.checkpoint.store import CheckpointStore
from tilth.checkpoint.trainable import base_fingerprint, check_base, load_trainable, trainable_state
from tilth.core.config import parse
from tilth.data.batches.loader import Batch
from tilth.distributed.runtime import Runtime
from tilth.model import pieces
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, merge, merge_and_unload
from tilth.model.config import ModelConfig
from tilth.model.precision import make_scaler
from tilth.model.transformer import Transformer, build
from tilth.training.config import OptimizerConfig
from tilth.training.loss import summed_loss
from tilth.training.optim import load_state_tensors, make_optimizer, state_tensors
from tilth.training.step import accumulate, update

WIDE = {"initializer_range": 0.3}  # weights as small as those a model begins with let no adapter do much
CPU = Runtime(torch.device("cpu"))


def base() -> Transformer:
    return build(
        ModelConfig(preset="llama-tiny", num_hidden_layers=2, hidden_size=32, context_length=8, vocab_size=19, **WIDE),
        1,
    )


def batch(step: int) -> Batch:
    """Rows that count upwards, which can be learned."""
    start = np.random.default_rng(step).integers(0, 19, (6, 1))
    ids = (start + np.arange(9)) % 19
    return Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), np.arange(6))


class Run:
    """A model with an adapter, its optimizer, and the trainer's own step."""

    def __init__(self, precision: Any = "fp32", **changes: Any) -> None:
        self.model, self.precision = base(), precision
        self.fingerprint = base_fingerprint(self.model)
        wanted = {"rank": 4, "dropout": 0.1, **changes}
        self.applied = apply_adapter(self.model, parse(AdapterConfig, wanted), 1)
        self.frozen = {k: v.detach().clone() for k, v in self.model.state_dict().items() if k not in self.trained}
        self.optimizer = make_optimizer(OptimizerConfig(lr=2e-2), self.model)
        self.scaler = make_scaler(precision, CPU.device)

    @property
    def trained(self) -> set[str]:
        return set(trainable_state(self.model))

    def step(self, number: int) -> float:
        self.model.train()
        loss = accumulate(self.model, batch(number), 2, CPU, self.precision, self.scaler, seed=1, step=number)
        assert all((parameter.grad is not None) == parameter.requires_grad for parameter in self.model.parameters())
        return update(self.model, self.optimizer, self.scaler, loss, 1.0).loss


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "changes"),
    [
        ("fp32", {}),
        ("bf16", {"dora": True}),
        ("fp32", {"quantize": "nf4", "rslora": True}),
        ("fp32", {"targets": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    ],
)
def test_the_adapter_learns_and_the_base_keeps_its_bits(precision: Any, changes: dict[str, Any]) -> None:
    run = Run(precision, **changes)
    losses = [run.step(number) for number in range(25)]
    assert losses[-1] < 0.6 * losses[0]
    state = run.model.state_dict()
    assert run.frozen and all(torch.equal(state[name], value) for name, value in run.frozen.items())
    assert {key.partition("|")[0] for key in state_tensors(run.optimizer)} == run.trained
    assert run.applied.trained == sum(value.numel() for value in trainable_state(run.model).values())
    assert run.applied.trained + run.applied.frozen == sum(value.numel() for value in run.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"dora": True}, {"quantize": "nf4"}, {"modules_to_save": ["embed_tokens"]}])
def test_a_run_goes_on_from_what_trains_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    whole, first, second = Run(**changes), Run(**changes), Run(**changes)
    for number in range(6):
        whole.step(number)
    for number in range(3):
        first.step(number)
    store = CheckpointStore(tmp_path)
    tensors = {"model": trainable_state(first.model), "optimizer": state_tensors(first.optimizer)}
    store.save(3, tensors, {"base": first.fingerprint})
    saved = store.at(3)
    check_base(saved.state()["base"], second.fingerprint, saved.path)
    load_trainable(second.model, saved.tensors("model"), saved.path)
    load_state_tensors(second.optimizer, saved.tensors("optimizer"))
    for number in range(3, 6):
        second.step(number)
    ends = [trainable_state(run.model) for run in (whole, second, first)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not all(torch.equal(value, ends[2][name]) for name, value in ends[0].items()), "steps 3 to 5 matter"


def test_the_merged_model_is_a_plain_one_with_the_trained_loss() -> None:
    run = Run(dora=True)
    for number in range(5):
        run.step(number)
    model = run.model.eval()
    rows = batch(9)
    labels, ids = torch.from_numpy(rows.labels), torch.from_numpy(rows.input_ids)
    before = float(summed_loss(model(ids), model.output_weight, labels).detach())
    merge(model)
    merge_and_unload(model)
    assert model.state_dict().keys() == base().state_dict().keys()
    assert float(summed_loss(model(ids), model.output_weight, labels)) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("piece", [19 * 64, 1 << 21])
def test_a_frozen_output_matrix_gets_no_gradient_and_changes_no_other(piece: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 100, 16, generator=generator).requires_grad_()
    output = torch.randn(19, 16, generator=generator)
    labels = torch.randint(0, 19, (3, 100), generator=generator)
    gradients = []
    for trained in (True, False):
        loss = summed_loss(hidden, output.clone().requires_grad_(trained), labels)
        gradients.append(torch.autograd.grad(loss, hidden)[0])
    assert torch.equal(gradients[0], gradients[1])
