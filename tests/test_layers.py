"""Imports point down: every import of every module against the table of layers; who imports torch; how long files are.

The table is that of docs/architecture.md. A package imports from lines below its own only, never sideways; and no
modules import one another in a circle. Imports in functions, under `if TYPE_CHECKING:` and relative ones count like any
other. The checkers are tried on planted faults too: one that finds nothing would pass for clean code.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tilth"

LAYERS = (
    ("core",),
    ("tokenizer", "model", "distributed"),
    ("data", "checkpoint", "generate", "diagnose"),
    ("training", "evaluation", "exporting"),
    ("jobs",),
    ("serve", "dashboard"),
    ("cli", "__init__", "__main__"),
)
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
TOP = ("__init__", "__main__")  # the doors: they may open the command line, which stands beside them

WITHOUT_TORCH = ("core", "tokenizer", "data", "cli")
ALSO_WITHOUT_TORCH = {
    "jobs.recipe",
    "jobs.prepare",
    "jobs.trace",
    "jobs.pages.data_report",
}  # reading a recipe and preparing data must not take seconds to begin
TAKES_TORCH = {"data.batches.feed"}
LONGEST_FILE = 500
FORBIDDEN_IMPORTS = {"transformers", "pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
# In functions only: what the one is for; older files of a tokenizer are converted.
MAY_IMPORT = {"model.wrapped_config": {"transformers"}, "tokenizer.foreign_files": {"transformers"}}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save"}
CALLED_BY = {"data.sources.origins": "data.sources.listing"}
"""A table of `module:function` stands below all that is named in it: a name counts where it is called."""


parsed = cache(ast.parse)  # three tests look at every module


def name_of(path: Path, root: Path = SOURCE) -> str:
    """`data/words.py` -> `data.words`, `data/__init__.py` -> `data`, the package's own `__init__.py` -> `__init__`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def is_package(name: str) -> bool:
    return (SOURCE / Path(*name.split(".")) / "__init__.py").exists()


def package_of(name: str) -> str:
    """The package that relative imports of a module start from."""
    if name in TOP:
        return "tilth"
    return f"tilth.{name}" if is_package(name) else f"tilth.{name}".rpartition(".")[0]


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of everything that is imported anywhere in a module of `package`.

    A name taken from a module counts as `module.name`, because it may be a module itself. One taken from tilth itself
    is a public name, even where a package is called the same: `tilth.__init__.name`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            base = "tilth.__init__" if base == "tilth" else base
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def layer_faults(name: str, source: str) -> list[str]:
    """Imports of the module `name` (its name below tilth) that do not point down."""
    own = name.partition(".")[0]
    if own not in LAYER:
        return [f"{name}: the package {own!r} stands in no layer"]
    faults = []
    for line, target in imported(parsed(source), package_of(name)):
        top, *below = target.split(".")
        other = below[0] if below else "__init__"
        door = own == "__main__" and other == "cli"
        if top == "tilth" and other != own and not door and LAYER.get(other, len(LAYERS)) >= LAYER[own]:
            faults.append(f"{name}:{line} imports {target}: {own} is in layer {LAYER[own]}, {other} is not below it")
    return faults


def modules() -> dict[str, str]:
    """The source of every module by its name below tilth."""
    return {name_of(path): path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}


def at_import(name: str, source: str) -> set[str]:
    """What is imported when the module itself is: not inside functions, not under `if TYPE_CHECKING:`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [parsed(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {target for _, target in imported(node, package_of(name))}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def import_graph(sources: dict[str, str]) -> dict[str, list[str]]:
    """What each module imports when it is imported: modules of tilth by their names, and `torch`."""
    graph = {}
    for name, source in sources.items():
        below = set()
        for top, *parts in (target.split(".") for target in at_import(name, source)):
            if top == "torch":
                below.add("torch")
            elif top == "tilth":
                below |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & sources.keys()
        graph[name] = sorted(below - {name})
    return graph


def way_to_torch(name: str, graph: dict[str, list[str]]) -> list[str]:
    """The shortest chain of modules by which importing `name` imports torch; empty when it does not."""
    ways, seen = deque([[name]]), {name}
    while ways:
        way = ways.popleft()
        for below in graph.get(way[-1], []):
            if below == "torch":
                return [*way, "torch"]
            if below not in seen:
                seen.add(below)
                ways.append([*way, below])
    return []


def ties(sources: dict[str, str]) -> dict[str, set[str]]:
    """What each module imports, wherever in it: the modules of tilth that are meant, not the packages that they are in.

    What it names as `module:function` counts too, for it is imported when it is called.
    """
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        tree, caller = parsed(source), CALLED_BY.get(name, name)
        named = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        ways = [(name, target) for _, target in imported(tree, package_of(name))]
        ways += [(caller, target.replace(":", ".")) for target in named if re.fullmatch(r"tilth(\.\w+)+:\w+", target)]
        for importer, target in ways:
            inside = target.removeprefix("tilth.")
            meant = next((one for one in (inside, inside.rpartition(".")[0]) if one in sources), importer)
            if target != inside and meant != importer:
                graph[importer].add(meant)
    return graph


def circle(sources: dict[str, str]) -> list[str]:
    """Modules of which each imports the next, with the first again at the end; empty where there is no such circle."""
    try:
        TopologicalSorter(ties(sources)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_down() -> None:
    found = modules()
    assert len(found) > 50, "the modules are not where this test looks"
    assert not [fault for name, source in found.items() for fault in layer_faults(name, source)]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data.batches.loader", "from tilth.checkpoint.store import Checkpoint"),
        ("data.batches.loader", "import tilth.training.step"),
        ("data.batches.loader", "def f():\n    def g():\n        from tilth.generate import text"),
        (
            "data.batches.loader",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tilth.jobs.recipe import Recipe",
        ),
        ("data.batches.loader", "from ...checkpoint import store"),
        ("data.sources.files", "from ...generate.text import TextOptions"),
        ("data.sources", "from ...jobs import recipe"),
        ("data.batches.loader", "from tilth import train"),
        ("core.files", "from tilth import load"),
        ("core.files", "import tilth"),
        ("core.files", "import tilth.nowhere"),
        ("cli.main", "from tilth import train"),
        ("extra.module", "from tilth.core import files"),
    ],
)
def test_a_planted_fault_is_found(name: str, source: str) -> None:
    assert layer_faults(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data.batches.loader", "from tilth.core.random import derive_seed\nimport numpy as np"),
        ("data.batches.loader", "from ..shards import TokenStream\nfrom ...core import files"),
        ("data.sources.files", "from . import streams\nfrom ..document import Document"),
        ("data.sources", "from .config import SourceConfig\nfrom .. import document"),
        ("jobs.train", "from tilth.training.trainer import Trainer"),
        ("__main__", "from tilth.cli.main import main"),
        ("__init__", "def f():\n    from tilth.jobs.api import train"),
    ],
)
def test_what_is_allowed_is_let_through(name: str, source: str) -> None:
    assert layer_faults(name, source) == []


def test_no_modules_import_one_another() -> None:
    found = modules()
    assert sum(map(len, ties(found).values())) > 1000, "the imports are not seen"
    assert circle(found) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from tilth.data.batches.feed import Feed",
        "from tilth.data.batches import feed",
        "from . import feed",
        "import tilth.data.batches.feed",
        "from tilth.data.batches.order import ring",
        "def f():\n    from tilth.data.batches.feed import Feed",
        "if TYPE_CHECKING:\n    from tilth.data.batches.feed import Feed",
        "LATER = 'tilth.data.batches.feed:Feed'",
    ],
)
def test_a_planted_circle_is_found(planted: str) -> None:
    beside = {
        "data.batches.order": "from tilth.data.batches.feed import Feed",
        "data.batches": "from tilth.data.batches.loader import Loader",
    }
    sources = {**beside, "data.batches.feed": "def f():\n    from .loader import Loader"}
    assert {"data.batches.loader", "data.batches.feed"} <= {*circle({**sources, "data.batches.loader": planted})}
    elsewhere = ("import torch", "from tilth.data.shards import feed", "from tilth.core import feed", "x = 'feed:y'")
    for harmless in elsewhere:
        assert circle({**sources, "data.batches.loader": harmless}) == []


def test_what_a_table_names_counts_where_it_is_called() -> None:
    table, lister = "ROW = 'tilth.data.sources.hub:list_hub'", "from tilth.data.sources.origins import ROW"
    sources = {"data.sources.origins": table, "data.sources.listing": lister, "data.sources.hub": lister}
    assert circle(sources) == []
    assert circle({**sources, "data.sources.hub": "from tilth.data.sources.listing import list_inputs"})


def test_torch_is_imported_only_by_what_needs_it() -> None:
    graph = import_graph(modules())
    light = {name for name in graph if name.partition(".")[0] in (*WITHOUT_TORCH, *TOP)} - TAKES_TORCH
    light |= ALSO_WITHOUT_TORCH
    assert len(light) > 40, "the modules are not where this test looks"
    ways = [" -> ".join(way) for name in light if (way := way_to_torch(name, graph))]
    assert not ways
    assert all(way_to_torch(name, graph) for name in TAKES_TORCH)


@pytest.mark.parametrize(
    "planted",
    [
        "import torch",
        "from torch import nn",
        "try:\n    import torch.nn\nexcept ImportError:\n    pass",
        "class A:\n    import torch",
        "from tilth.data.batches import feed",
        "from .feed import Feed",
        "from tilth.data.batches.feed import Feed",
    ],
)
def test_a_planted_import_of_torch_is_found(planted: str) -> None:
    sources = {"data.batches.loader": planted, "data.batches.feed": "import torch"}
    assert way_to_torch("data.batches.loader", import_graph(sources))
    inside = "\n".join(f"    {line}" for line in planted.splitlines())
    for harmless in (f"def f():\n{inside}", f"if TYPE_CHECKING:\n{inside}"):
        assert way_to_torch("data.batches.loader", import_graph({**sources, "data.batches.loader": harmless})) == []


def forbidden(source: str, name: str = "") -> list[str]:
    """What no module of tilth does (but one): another library's models, pickles, and code made from text."""
    tree = parsed(source)
    banned = FORBIDDEN_IMPORTS - MAY_IMPORT.get(name, set())
    found = [target for _, target in imported(tree, "tilth") if target.partition(".")[0] in banned]
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return found + [call for call in calls if call in FORBIDDEN_CALLS]


def test_nothing_is_unpickled_or_evaluated() -> None:
    assert not {name: found for name, source in modules().items() if (found := forbidden(source, name))}
    assert all(allowed.isdisjoint(at_import(name, modules()[name])) for name, allowed in MAY_IMPORT.items())
    for planted in ("def f():\n    import pickle", "from transformers import AutoModel", "torch.load(x)", "eval('1')"):
        assert forbidden(planted)


def test_no_file_is_longer_than_it_may_be() -> None:
    files = [path for folder in ("src", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in files}
    assert max(lengths.values()) > 100, "the files are not where this test looks"
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}
