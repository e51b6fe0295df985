"""Documentation from a syntax tree: what a module says of its public classes and functions.

reference("textwrap", tree) -> str       each signature, and below it what its docstring says
described(tree) -> Iterator[Described]   the same, piece by piece
docstring(node) -> str

textwrap
========

Text wrapping and filling.

class TextWrapper(width=70, …)
    Object for wrapping/filling text. …

TextWrapper.wrap(text)
    Reformat the single paragraph in 'text' …
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Described(NamedTuple):
    """A public class or function.

    Attributes:
        name: with the classes that it stands in: `TextWrapper.wrap`.
        is_class: or a function.
        signature: as the reference has it.
        arguments: as its caller writes them; None of what is not called, or takes what its class alone would tell.
        text: its docstring; empty for a class that has documented members alone.
    """

    name: str
    is_class: bool
    signature: str
    arguments: str | None
    text: str


def reference(name: str, tree: ast.Module) -> str:
    """The documentation of a module, or an empty text when nothing public in it has a docstring."""
    about = docstring(tree)
    entries = [_entry(one) for one in described(tree)]
    if not about and not entries:
        return ""
    return "\n\n".join([f"{name}\n{'=' * len(name)}", *([about] if about else []), *entries]) + "\n"


def described(tree: ast.Module) -> Iterator[Described]:
    """Each public function with a docstring, and class with one or with such members, in the order of the source."""
    yield from _described(tree.body, "")


def _described(body: Iterable[ast.stmt], owner: str) -> Iterator[Described]:
    for node in _definitions(body):
        if node.name.startswith("_"):
            continue
        text = docstring(node)
        if isinstance(node, ast.ClassDef):
            members = list(_described(node.body, f"{owner}{node.name}."))
            if members or text:
                yield _class(node, owner, text)
            yield from members
        elif text:
            yield _function(node, owner, text)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[ast.ClassDef | _Function]:
    """Classes and functions, those under `if` and `try` too: a module often defines by platform."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions([*node.body, *node.orelse])


def _entry(one: Described) -> str:
    return f"{one.signature}\n{textwrap.indent(one.text, '    ')}" if one.text else one.signature


def docstring(node: ast.Module | ast.ClassDef | _Function) -> str:
    """What a module, class or function says of itself, without indentation; empty where it says nothing."""
    return (ast.get_docstring(node) or "").strip()


def _class(node: ast.ClassDef, owner: str, text: str) -> Described:
    name = f"{owner}{node.name}"
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        arguments = _arguments(init, bound=True)
        return Described(name, True, f"class {name}({arguments})", arguments, text)
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    return Described(name, True, f"class {name}({bases})" if bases else f"class {name}", None, text)


def _function(node: _Function, owner: str, text: str) -> Described:
    name = f"{owner}{node.name}"
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    if marks & {"property", "cached_property", "functools.cached_property"}:
        return Described(name, False, name, None, text)
    word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = _arguments(node, bound=bool(owner) and "staticmethod" not in marks)
    return Described(name, False, f"{word}{name}({arguments}){returns}", arguments, text)


def _arguments(node: _Function, *, bound: bool) -> str:
    """The parameters as one writes them; a bound method's first (`self`) is not for the caller."""
    text = ast.unparse(node.args)
    first = [*node.args.posonlyargs, *node.args.args][:1]
    if not (bound and first):
        return text
    return text.partition(", ")[2].removeprefix("/, ").removeprefix("/")
