"""One optimizer update: micro-batches in, one gradient of the whole global batch, one step.

Every micro-batch adds (sum of its losses) / (valid labels of the GLOBAL batch), so the gradient does not depend on
how the batch was cut or over how many processes it was spread. So a step to which memory was refused can be done
again with fewer rows at once (`OutOfMemory`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tilth.core.environment import Precision
from tilth.core.errors import first_line
from tilth.core.random import derive_seed
from tilth.data.batches.batch import Batch
from tilth.data.batches.feed import Feed
from tilth.distributed.refused import OutOfMemory, is_of_memory
from tilth.distributed.runtime import Runtime
from tilth.model.compiled import is_compiled
from tilth.model.dropout import drawing
from tilth.model.wrapped import AnyModel
from tilth.training.loss import summed_loss
from tilth.training.out_of_memory import forget

Pass = Callable[[Batch, float], Tensor]
"""Adds the gradient of a micro-batch; gives its loss, which both are divided by: see `one_pass`."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Loss per valid label (nats) and gradient norm before clipping, over the whole global batch.

    `updated` is false when loss or gradient was no finite number; `skipped` when it was fp16's scale that overflowed.
    """

    loss: float
    grad_norm: float
    updated: bool
    skipped: bool


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Makes torch's implicit draws (dropout) follow from `seed`, and leaves the global generators as they were."""
    if device.type == "mps":
        before = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                yield
        finally:
            torch.mps.set_rng_state(before)
        return
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        # torch.manual_seed would write down the call stack for each accelerator that is not there: 0.3 ms and more
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            torch.cuda.manual_seed(seed)
        yield


def accumulate(
    model: AnyModel,
    batch: Batch,
    micro_rows: int,
    runtime: Runtime,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    *,
    seed: int,
    step: int,
    passes: Pass | None = None,
) -> float:
    """Adds the gradient of this process's share of the global batch to `.grad`; returns the global mean loss (nats).

    Gradients are summed over all processes when this returns. `seed` and `step` say which dropout masks are drawn; on a
    CPU they do not depend on `micro_rows`, nor on the number of processes.

    OutOfMemory, on every process, when memory was refused to one: all gradients are then gone, and nothing else has
    changed, so that the same can be done again with fewer rows.

    Args:
        passes: in place of `one_pass`, of this model in this precision.
    """
    (valid,) = runtime.sum_floats([float(batch.valid_labels)])
    own, refusal = 0.0, ""
    try:
        own = _backward(passes, model, batch, micro_rows, runtime, precision, scaler, valid, seed, step)
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        refusal = first_line(error)
    if refusal:
        forget(model, runtime.device)
    # All hear of it before gradients are added up: one that failed has none, and the others would wait for it.
    total, failed = runtime.sum_floats([own, float(bool(refusal))])
    if failed:
        if not refusal:
            forget(model, runtime.device)
        raise OutOfMemory(refusal or "in another process")
    runtime.sum_all([p.grad for p in model.parameters() if p.grad is not None])
    return total


def _backward(
    passes: Pass | None,
    model: AnyModel,
    batch: Batch,
    micro_rows: int,
    runtime: Runtime,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    valid: float,
    seed: int,
    step: int,
) -> float:
    """Adds the gradient of these rows; returns their part of the mean loss."""
    losses, device = [], runtime.device
    for number, start in enumerate(range(0, len(batch.input_ids), micro_rows)):
        rows = batch.rows(start, start + micro_rows)
        draws = drawing(derive_seed(seed, "dropout", step), int(rows.sample_ids[0]), len(rows.sample_ids))
        # What draws by torch itself, on an accelerator or in a class of transformers', draws anew for each micro-batch.
        with draws, seeded(device, derive_seed(seed, "dropout", step, number, runtime.rank)):
            if passes is None:
                losses.append(one_pass(model, Feed.of(rows, device), precision, scaler, valid))
            else:
                losses.append(passes(rows, valid))
    return float(torch.stack(losses).cpu().double().sum())


def one_pass(
    model: AnyModel, feed: Feed, precision: Precision, scaler: torch.amp.GradScaler, valid: float | Tensor
) -> Tensor:
    """The loss of a micro-batch, summed and divided by `valid` (scalar, nats); its gradient is added to `.grad`."""
    loss = loss_of(model, feed.hidden(model, precision), feed.labels, precision) / valid
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def loss_of(model: AnyModel, hidden_BTD: Tensor, labels_BT: Tensor, precision: Precision) -> Tensor:
    """The loss of `model` on its hidden states, summed over valid labels (nats)."""
    return summed_loss(
        hidden_BTD,
        model.output_weight,
        labels_BT,
        precision,
        bias_V=model.output_bias,
        softcap=model.logit_softcap,
        compiled=is_compiled(model),
    )


def update(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, loss: float, clip: float | None
) -> StepResult:
    """Clips, and steps unless loss or gradient is not finite; clears the gradients only when it stepped.

    Under fp16 a gradient that overflowed is the scaler's affair: it skips the step and lowers its scale.
    """
    scaler.unscale_(optimizer)
    size = _clip(model, clip)
    finite = math.isfinite(loss) and math.isfinite(size)
    overflow = scaler.is_enabled() and math.isfinite(loss) and not finite
    if finite or overflow:
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    return StepResult(loss, size, updated=finite, skipped=overflow)


def _clip(model: nn.Module, clip: float | None) -> float:
    """What `nn.utils.clip_grad_norm_` does, but for multiplying by a factor that is 1: that reads and writes all
    gradients, and changes no bit. Returns the norm before.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    size = float(norm)
    # The factor is clip / (norm + 1e-6), 1 at most; where it is only nearly 1, torch's own rounding decides.
    if clip is not None and not size + 1e-6 < clip * (1 - 1e-6):
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return size
