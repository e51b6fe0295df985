"""From a split's tokens to batches, in an order that is computed from (seed, epoch) and nothing else.

Which tokens sample n of a run is, a sampler computes (order.py). A global batch is consecutive sample numbers; rank r
of W takes its share of them, so the data seen does not depend on W. The loader's whole state is the number of samples
consumed.

Arrays are numpy; the trainer makes tensors of them without a copy. Shapes: B rows, T tokens.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tilth.core.errors import CheckpointError
from tilth.data.batches.batch import IGNORE, Batch, make_batch
from tilth.data.batches.masking import Masker
from tilth.data.batches.order import Sampler, read
from tilth.data.shards import TokenStream

PREFETCH = 4
"""Batches that are made ahead of time."""


class Loader:
    """This rank's share of each global batch, made ahead of time by a thread that draws no random number.

    Args:
        sampler: which tokens each sample is (`make_sampler`).
        batch_rows: rows of the global batch, `world_size` at least; shares differ by one row where it is no multiple.
        fingerprint: the identity of the dataset; a state of another one is refused.
        masker: hides tokens, for masked language models; the sampler's labels are then the tokens themselves.
        prefetch: batches that are ready at most.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_rows: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        fingerprint: str = "",
        masker: Masker | None = None,
        prefetch: int = PREFETCH,
    ) -> None:
        assert batch_rows >= world_size, "the job refuses such a world size before this"
        assert (masker is None) == (sampler.ahead == 1), "a masked model, and no other, sees the token that it predicts"
        self.sampler, self.masker = sampler, masker
        self.batch_rows, self.rank, self.world_size = batch_rows, rank, world_size
        self.fingerprint, self.prefetch = fingerprint, prefetch
        self.samples = 0
        self._worker: _Prefetcher | None = None

    @property
    def samples_per_epoch(self) -> int:
        """Samples that one pass over the split gives."""
        return self.sampler.samples_per_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the next sample, from 0."""
        return self.samples // self.samples_per_epoch

    @property
    def share_rows(self) -> int:
        """The most rows of a global batch that any rank has."""
        return -(-self.batch_rows // self.world_size)

    def peek(self, rows: int) -> Batch:
        """The next samples [rows, T], as many as one likes; nothing moves on."""
        batch = read(self.sampler, self.samples + np.arange(rows, dtype=np.int64))
        return batch if self.masker is None else self.masker(batch)

    def next(self) -> Batch:
        """This rank's rows of the next global batch [about batch_rows / world_size, T]."""
        if self._worker is None:
            self._worker = _Prefetcher(self._batches(self.samples), self.prefetch)
        batch = self._worker.get()
        self.samples += self.batch_rows
        return batch

    def _batches(self, first: int) -> Iterator[Batch]:
        begin, end = (n * self.batch_rows // self.world_size for n in (self.rank, self.rank + 1))
        while True:
            samples = first + np.arange(begin, end, dtype=np.int64)
            batch = read(self.sampler, samples)
            yield batch if self.masker is None else self.masker(batch)
            first += self.batch_rows

    def close(self) -> None:
        """Ends the thread."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def state_dict(self) -> dict[str, Any]:
        """A few integers from which the same batches follow."""
        return {
            "epoch": self.epoch,
            "samples": self.samples,
            "seed": self.sampler.seed,
            "context_length": self.sampler.context_length,
            "dataset": self.fingerprint,
            **self.sampler.order(),
            **({} if self.masker is None else {"masking": self.masker.order()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after `state`; CheckpointError says what changed when the order would be another."""
        here = self.state_dict()
        keys = sorted((here.keys() | state.keys()) - {"epoch", "samples"})
        changed = [key for key in keys if here.get(key) != state.get(key)]
        if changed:
            what = ", ".join(f"{key} {state.get(key)} -> {here.get(key)}" for key in changed)
            raise CheckpointError(
                f"the data is not what the checkpoint was trained on: {what}",
                "use the recipe and the text of that run, or start another run with --run NEW_FOLDER",
            )
        self.close()
        self.samples = state["samples"]


class _Prefetcher:
    """Runs an iterator in a thread, at most `depth` items ahead; what it raises is raised to the reader."""

    def __init__(self, items: Iterator[Batch], depth: int) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), name="tilth-loader", daemon=True)
        self._thread.start()

    def _run(self, items: Iterator[Batch]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # whatever it is, the reader must get it: a silent thread would hang the run
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def get(self) -> Batch:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


def evaluation_batches(
    stream: TokenStream,
    context_length: int,
    rows: int,
    end_of_text: int,
    isolate: bool,
    unasked: Sequence[int] = (),
) -> Iterator[Batch]:
    """A full pass: every token of the stream predicted exactly once, from non-overlapping windows of `context_length`.

    The first window starts with end-of-text, so that the stream's first token is predicted too; the last is filled up
    with positions that bear no loss.

    Args:
        unasked: ids that are read and bear no loss: those that begin every text, and say nothing of it.
    """
    total = stream.tokens
    windows = -(-total // context_length)
    for first in range(0, windows, rows):
        samples = np.arange(first, min(first + rows, windows), dtype=np.int64)
        # Shifted by one: window w predicts the tokens w*T .. w*T+T-1, and reads the one before each.
        batch = make_batch(stream, samples * context_length - 1, context_length, samples, isolate)
        predicted = samples[:, None] * context_length + np.arange(context_length)
        labels = np.where((predicted < total) & ~np.isin(batch.labels, unasked), batch.labels, IGNORE)
        input_ids = batch.input_ids.copy()
        if first == 0:
            input_ids[0, 0] = end_of_text
        yield Batch(input_ids, labels, samples, batch.doc_ids, batch.positions)
