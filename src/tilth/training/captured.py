"""A micro-batch's way forward and back as one CUDA graph.

    can_capture(model, device, scaler)     whether it can be
    CapturedPasses(model, …)(rows, valid)  adds a gradient, as `step.one_pass` does

A small model's step is hundreds of kernels that take less time than the calls that begin them; a graph begins all of
them by one call. The first pass of a shape runs call by call, which loads, compiles and chooses kernels; the second is
recorded, and from then on it is replayed, on new rows that are copied to where the recorded ones lay. Gradients
therefore keep their place from step to step, and so does what lies between forward and back: that memory serves nothing
else. Where too little is left for the rest of a run, passes stay as they are, and it is told why.

Numbers are the same bits either way: the same kernels in the same order, and dropout draws from the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tilth.core.environment import Precision
from tilth.core.errors import first_line
from tilth.data.batches.batch import Batch
from tilth.data.batches.feed import Feed, moved
from tilth.model.quantize import is_quantized
from tilth.model.recompute import Recomputed
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel
from tilth.training.step import one_pass

_LEFT = 8  # at least an eighth of the device's memory stays free for evaluations and samples
_SHAPES = 4  # graphs at the most: full micro-batches and what is left over are two

_Kind = tuple[torch.Size, bool, bool, bool]


def can_capture(model: AnyModel, device: torch.device, scaler: torch.amp.GradScaler) -> bool:
    """Whether passes of this model do the same calls each time, whatever the numbers are. Classes of transformers' may
    not; what is computed again on the way back sets generators, which a graph cannot; fp16's scale changes.
    """
    if device.type != "cuda" or not isinstance(model, Transformer) or scaler.is_enabled():
        return False
    again = any(isinstance(layer.forward, Recomputed) for layer in model.layers)
    return not again and not is_quantized(model)


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors that it reads and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]
    valid: Tensor
    loss: Tensor


class CapturedPasses:
    """Passes of one model, which must not move its weights.

    Args:
        tell: gets a line where graphs are given up.
    """

    def __init__(
        self, model: AnyModel, device: torch.device, precision: Precision, tell: Callable[[str], None]
    ) -> None:
        self._model, self._device, self._precision, self._tell = model, device, precision, tell
        self._unscaled = torch.amp.GradScaler(device.type, enabled=False)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._given_up = False
        self.forget()

    def forget(self) -> None:
        """Lets go of graphs, of the memory that they hold, and of where gradients lie."""
        self._graphs: dict[_Kind, _Captured] = {}
        self._seen: set[_Kind] = set()
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, rows: Batch, valid: float) -> Tensor:
        """The loss of `rows`, divided by `valid`; its gradient is added to `.grad`. Memory that is refused raises as it
        does without a graph.
        """
        kind = (torch.Size(rows.input_ids.shape), rows.positions is None, rows.doc_ids is None, rows.causal)
        inputs = tuple(
            None if numbers is None else moved(numbers, self._device)
            for numbers in (rows.input_ids, rows.labels, rows.positions, rows.doc_ids)
        )
        count = torch.full((), valid, dtype=torch.float32, device=self._device)
        self._put_gradients()
        if kind not in self._graphs and kind in self._seen and not self._given_up:
            self._capture(kind, inputs, count)
        captured = self._graphs.get(kind)
        if captured is None:
            return self._plain(kind, inputs, count)
        for place, numbers in zip((*captured.inputs, captured.valid), (*inputs, count), strict=True):
            if place is not None and numbers is not None:
                place.copy_(numbers)
        captured.graph.replay()
        return captured.loss.clone()

    def _plain(self, kind: _Kind, inputs: tuple[Tensor | None, ...], valid: Tensor) -> Tensor:
        """Call by call, on the stream on which it would be recorded: libraries prepare themselves for each."""
        if self._given_up:
            return self._pass(kind, inputs, valid)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = self._pass(kind, inputs, valid)
        current.wait_stream(self._stream)
        for tensor in (*inputs, valid):
            if tensor is not None:
                tensor.record_stream(self._stream)
        self._seen.add(kind)
        if not self._gradients:
            self._gradients = [(p, p.grad) for p in self._model.parameters() if p.grad is not None]
        return loss

    def _pass(self, kind: _Kind, inputs: tuple[Tensor | None, ...], valid: Tensor) -> Tensor:
        ids, labels, positions, doc_ids = inputs
        assert ids is not None and labels is not None
        feed = Feed.on(ids, labels, positions, doc_ids, causal=kind[-1])
        return one_pass(self._model, feed, self._precision, self._unscaled, valid)

    def _put_gradients(self) -> None:
        """Where the optimizer let go of gradients, they begin from zero in their old places, which graphs write to."""
        if self._gradients and self._gradients[0][0].grad is None:
            torch._foreach_zero_([gradient for _, gradient in self._gradients])
            for parameter, gradient in self._gradients:
                parameter.grad = gradient

    def _capture(self, kind: _Kind, inputs: tuple[Tensor | None, ...], valid: Tensor) -> None:
        """Records a pass, which computes nothing yet."""
        if len(self._graphs) >= _SHAPES:
            return
        torch.cuda.empty_cache()  # what a pass has left cannot be used by the graph, which has memory of its own
        graph = torch.cuda.CUDAGraph()
        kept = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        count = valid.clone()
        pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None  # they never run at once
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                loss = self._pass(kind, kept, count)
        except RuntimeError as error:
            reason = first_line(error)
            _mend_generator(self._device)
        else:
            free, total = torch.cuda.mem_get_info(self._device)
            if free * _LEFT >= total:
                self._graphs[kind] = _Captured(graph, kept, count, loss)
                return
            reason = f"it would leave {free / 2**30:.1f} of {total / 2**30:.1f} GiB for the rest of the run"
            del loss
        del graph
        self.forget()
        self._given_up = True
        torch.cuda.empty_cache()
        self._tell(f"steps run without a CUDA graph: {reason}")


def _mend_generator(device: torch.device) -> None:
    """A graph that could not be ended leaves the generator as if it were still being recorded: it gets a new state,
    with which it draws as before once it is seeded.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    fresh = torch.Generator(device)
    torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())
