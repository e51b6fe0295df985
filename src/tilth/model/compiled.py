"""Compiled blocks: what a layer does in training as one graph, which torch's compiler makes and all layers share.

    compile_layers(model)        from outside, within activation checkpointing where there is some
    plain_layers(model)          as it was
    is_compiled(model)           whether they do
    unsuited(config, adapter)    why a model cannot be compiled so; None where it can
    compiler_version()           of what makes machine code for processors: other ones may round otherwise

Only passes that are trained on go through the graph; evaluation and generation, whose shapes differ, run plain. There
is one graph for each shape of a micro-batch: a graph for all of them would round otherwise, and be used or not after
what came before it. Dropout's masks are drawn before the graph is entered, and are the same as without it.

What was compiled lies in the cache folder of this user, found by inductor under a hash of graph, torch's version,
compiler and processor. All is compiled in this process: no worker is left behind.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tilth.core.errors import RecipeError, first_line
from tilth.model.adapter_config import AdapterConfig
from tilth.model.attention import Rotary
from tilth.model.compiled_paper import Graph, graph_on_paper
from tilth.model.dropout import Dropout
from tilth.model.kv_cache import KVCache
from tilth.model.lora import LoraLinear
from tilth.model.recompute import Recomputed
from tilth.model.transformer import Block, Transformer
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.model.wrapped_config import WrappedConfig

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_SHAPES = 64  # graphs at the most: rows that are halved again and again, with what is left over, are fewer

Forward = Callable[..., Tensor]


def unsuited(config: AnyConfig, adapter: AdapterConfig | None) -> str | None:
    """Why the layers of a model stay as they are, in words; None where they can be compiled."""
    if isinstance(config, WrappedConfig):
        return "a class of transformers' runs as it is"
    if adapter and adapter.quantize:
        return "weights in four bits are read piece by piece"
    if adapter and adapter.dora:
        return "the lengths that DoRA divides by are made apart"
    return None


def compiler_version() -> str:
    """As the C++ compiler says it; to be asked where it has compiled something."""
    from torch._inductor.cpp_builder import get_compiler_version_info, get_cpp_compiler

    try:
        said = get_compiler_version_info(get_cpp_compiler())
    except RuntimeError:  # on a GPU none is needed
        return "none"
    found = re.search(r"\w+ version [\d.]+", said)
    return found[0] if found else said


def compile_layers(model: Transformer, cache: Path) -> None:
    """Lets the layers of `model` run compiled where they train; their graphs are made when they are first needed.

    Args:
        cache: the folder in which what was compiled is kept for the next process.
    """
    _prepare(cache)
    _each(model, _Compiled)


def layers_on_paper(model: Transformer) -> None:
    """Lets the layers of a `model` on paper take what compiled ones would; nothing is compiled."""
    graphs: dict[object, Graph] = {}
    _each(model, lambda layer, plain: _OnPaper(layer, plain, graphs))


def _each(model: Transformer, made: Callable[[Block, Forward], Any]) -> None:
    for layer in model.layers:
        assert isinstance(layer, Block)
        _replace(layer, functools.partial(made, layer))


def plain_layers(model: Transformer) -> None:
    """Undoes `compile_layers`."""
    for layer in model.layers:
        _replace(layer, lambda forward: forward.plain if isinstance(forward, _Compiled) else forward)


def is_compiled(model: AnyModel) -> bool:
    """Whether its layers run compiled where they train."""
    if not isinstance(model, Transformer):
        return False
    outer: Any = model.layers[0].forward
    return isinstance(outer.forward if isinstance(outer, Recomputed) else outer, _Compiled)


def _replace(layer: nn.Module, change: Callable[[Any], Any]) -> None:
    """Changes what runs innermost: what is done again for the way back is then the compiled layer."""
    outer: Any = layer.forward
    if isinstance(outer, Recomputed):
        outer.forward = change(outer.forward)
    else:
        layer.forward = change(outer)


class _Compiled:
    """The forward of a layer."""

    def __init__(self, layer: Block, plain: Forward) -> None:
        self._layer, self.plain = layer, plain
        self._ready: set[object] = set()  # what was passed through; a first pass may compile

    def __call__(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        if cache is not None or not (torch.is_grad_enabled() and self._layer.training):
            return self.plain(x_BTD, rotary, mask, cache, layer)
        kind = x_BTD.shape, x_BTD.requires_grad, None if mask is None else mask.shape
        with _drawn(self._layer, x_BTD), contextlib.nullcontext() if kind in self._ready else _compiling():
            out_BTD = self._run(x_BTD, rotary, mask)
        self._ready.add(kind)
        return out_BTD

    def _run(self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None) -> Tensor:
        # The number of a layer matters to its cache alone; a graph for each number would be made of it.
        return _graph()(self._layer, x_BTD, rotary, mask, None, 0)


class _OnPaper(_Compiled):
    """The same, of graphs that are run on paper; all layers whose arguments are alike share one."""

    def __init__(self, layer: Block, plain: Forward, graphs: dict[object, Graph]) -> None:
        super().__init__(layer, plain)
        self._graphs = graphs

    def _run(self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None) -> Tensor:
        trained = tuple(weight.requires_grad for weight in self._layer.parameters())
        kind = x_BTD.shape, x_BTD.requires_grad, None if mask is None else mask.shape, trained
        graph = self._graphs.get(kind) or self._graphs.setdefault(kind, graph_on_paper(self._layer))
        return graph(self._layer, x_BTD, rotary, mask)


@functools.cache
def _graph() -> Forward:
    graph: Forward = _compiled(Block.forward)
    return graph


def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False, fullgraph=True)


def graph_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors as one graph for each of their shapes, made when it is first needed; RecipeError where it
    cannot be made.
    """
    graph, ready = _compiled(function), set[object]()

    def run(*arguments: Any) -> Any:
        shapes = tuple(getattr(argument, "shape", argument) for argument in arguments)
        with contextlib.nullcontext() if shapes in ready else _compiling():
            result = graph(*arguments)
        ready.add(shapes)
        return result

    return run


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Within it graphs may be made, of so many shapes. RecipeError for whatever the compiler raises; what its modules
    warn of one another is no affair of ours.
    """
    import torch._dynamo.config as dynamo
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    try:
        # Not by an argument of torch.compile, which only newer versions take.
        with warnings.catch_warnings(), dynamo.patch(recompile_limit=_SHAPES):
            warnings.simplefilter("ignore")
            yield
    except (TorchDynamoException, FailOnRecompileLimitHit, GuardOnDataDependentSymNode) as error:
        raise RecipeError(
            f"the layers could not be compiled: {first_line(error)}",
            "install a C++ compiler (g++) and Python's headers, or set train.compile: false",
        ) from error


@contextlib.contextmanager
def _drawn(layer: Block, x_BTD: Tensor) -> Iterator[None]:
    """Within it, each dropout of the layer has its mask, where it draws them itself."""
    batch, time, _ = x_BTD.shape
    attention, drops = layer.self_attn, [m for m in layer.modules() if isinstance(m, Dropout)]
    heads = attention.q_proj.out_features // attention.head_dim
    shapes: dict[Dropout, tuple[int, ...]] = {attention.dropout: (batch, heads, time, time)}
    for module in layer.modules():
        if isinstance(module, LoraLinear) and module.part:
            shapes[module.part.dropout] = (batch * time, module.in_features)
    for module in drops:
        module.draw(torch.Size(shapes.get(module, x_BTD.shape)), x_BTD)
    try:
        yield
    finally:
        for module in drops:
            module.kept = None


def _prepare(cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own modules, about one another
        import torch._inductor.config as inductor
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    inductor.compile_threads = 1
    # Merely importing it names its own folder there, below /tmp, which is lost; one that the user named stays.
    if os.environ.get(_CACHE, default_cache_dir()) == default_cache_dir():
        os.environ[_CACHE] = str(cache)
