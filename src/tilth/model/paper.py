"""Tensors that have a shape and no numbers: what runs on them is counted (training/meter.py), not computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor


def on_paper(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor cannot be asked for: it has none, or a graph is being made of what is done with
    it. Code that goes by them goes by the largest case then.
    """
    return isinstance(tensor, (FakeTensor, FunctionalTensor))


def in_graph(tensor: Tensor) -> bool:
    """Whether a compiler makes one graph, forward and back, of what is done with a tensor: it chooses by itself what is
    kept between, and sees what needs no gradient.
    """
    return torch.compiler.is_compiling() or isinstance(tensor, FunctionalTensor)


_times = 1


def times() -> int:
    """How often what runs just now is to be counted."""
    return _times


def alike(pieces: range, tensor: Tensor) -> Iterator[int]:
    """Pieces through which a loop goes, one after the other. On paper the first two and the last: those between take
    what the second takes, and are counted with it; a loop may stand within another.
    """
    global _times
    if not on_paper(tensor) or len(pieces) < 4:
        yield from pieces
        return
    yield pieces[0]
    before = _times
    _times = before * (len(pieces) - 2)
    try:
        yield pieces[1]
    finally:
        _times = before
    yield pieces[-1]


_seen = True


def is_seen() -> bool:
    """Whether what runs just now is to be counted at all."""
    return _seen


@contextlib.contextmanager
def seen(whether: bool) -> Iterator[None]:
    """Within it, what runs takes memory and is work, or neither."""
    global _seen
    before, _seen = _seen, whether
    try:
        yield
    finally:
        _seen = before
