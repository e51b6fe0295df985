"""A compiled layer on paper: the two graphs that torch's compiler would make of it, run without machine code.

    graph_on_paper(layer) -> Graph      of one kind of arguments; traced when it is first called

A compiled layer keeps less for the way back than a plain one, and most of what lies between two products takes no
memory. What is kept and what is made anew, torch's partitioner decides (a minimal cut through the graph of both ways);
it is asked here as its compiler asks it. What is not called from a library is joined then: of it only that takes memory
which a product or attention reads, or which leaves the graph.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from tilth.model.attention import Rotary
from tilth.model.dropout import Dropout
from tilth.model.paper import seen
from tilth.model.transformer import Block

_OF_A_LIBRARY = ("mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product")

Graph = Callable[[Block, Tensor, Rotary | None, Tensor | None], Tensor]


def graph_on_paper(layer: Block) -> Graph:
    """`layer` as its graphs; those of another layer of the same shapes are the same."""
    traced = _traced(layer)

    def run(layer: Block, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None) -> Tensor:
        kept = [module.kept for module in _drops(layer)]
        with seen(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own modules, about one another
            out: Tensor = traced(x_BTD, rotary, mask, kept, *layer.parameters())
        return out

    return run


def _traced(layer: Block) -> Any:
    from torch._functorch.aot_autograd import aot_function
    from torch._guards import detect_fake_mode
    from torch._inductor.compile_fx import partition_fn
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.virtualized import V

    plain = _Plain(layer)
    names = [name for name, _ in plain.named_parameters()]

    def function(x: Tensor, rotary: Any, mask: Any, kept: Sequence[Any], *weights: Tensor) -> Any:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(plain, given, (x, rotary, mask, kept))

    def parted(joint: fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Any:
        mode = detect_fake_mode(inputs)
        with contextlib.nullcontext() if mode is None else V.set_fake_mode(mode):  # what torch's own dropout asks for
            return partition_fn(joint, inputs, **options)

    return aot_function(function, _runner, _runner, partition_fn=parted, decompositions=select_decomp_table())


def _drops(layer: Block) -> list[Dropout]:
    return [module for module in layer.modules() if isinstance(module, Dropout)]


class _Plain(nn.Module):
    """The layer whose `forward` may have been replaced, with all that it reads as an argument."""

    def __init__(self, layer: Block) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, rotary: Any, mask: Any, kept: Sequence[Any]) -> Tensor:
        drops = _drops(self.layer)
        before = [module.kept for module in drops]
        for module, of_it in zip(drops, kept, strict=True):
            module.kept = of_it
        out = Block.forward(self.layer, x, rotary, mask, None, 0)
        for module, of_it in zip(drops, before, strict=True):
            module.kept = of_it
        return out


def _runner(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Any:
    """What torch calls in place of machine code."""
    joined = _Joined(gm)

    def run(arguments: list[Any]) -> Any:
        return joined.boxed_run(arguments)

    run._boxed_call = True  # type: ignore[attr-defined]  # the graph lets go of its arguments one by one
    return run


class _Joined(fx.Interpreter):
    """Runs a graph node by node. What is joined is not seen, but for its results, and these only once that is let go of
    which was read for the last time: they are written in its place.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self._results = {node for node in graph.graph.nodes if not _from_library(node) and _read(node)}
        self._made: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        with seen(True):
            while self._made:
                self._made.pop().detach()  # seen for the first time
        with seen(n.op != "call_function" or _from_library(n)):
            value = super().run_node(n)
        if n in self._results and isinstance(value, Tensor):
            self._made.append(value)
        return value


def _read(node: fx.Node) -> bool:
    """Whether what it gives is read outside of what is joined, as it is or in another view."""
    return any(user.op == "output" or _from_library(user) or (_is_view(user) and _read(user)) for user in node.users)


def _from_library(node: fx.Node) -> bool:
    name = getattr(node.target, "_opname", "")
    return name in _OF_A_LIBRARY or name.startswith(_OF_A_LIBRARY[-1])


def _is_view(node: fx.Node) -> bool:
    return bool(getattr(node.target, "is_view", False))
