"""Reference documentation from a syntax tree: each signature, and below it what its docstring says.

reference("textwrap", tree) -> str

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

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def reference(name: str, tree: ast.Module) -> str:
    """The documentation of a module, or an empty text when nothing public in it has a docstring."""
    about = _docstring(tree)
    entries = list(_entries(tree.body, ""))
    if not about and not entries:
        return ""
    return "\n\n".join([f"{name}\n{'=' * len(name)}", *([about] if about else []), *entries]) + "\n"


def _entries(body: Iterable[ast.stmt], owner: str) -> Iterator[str]:
    """One text for each public class and function with a docstring, in the order of the source."""
    for node in _definitions(body):
        if node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            members = list(_entries(node.body, f"{owner}{node.name}."))
            if members or _docstring(node):
                yield _entry(_class_line(node, owner), node)
            yield from members
        elif _docstring(node):
            yield _entry(_function_line(node, owner), node)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[ast.ClassDef | _Function]:
    """Classes and functions, those under `if` and `try` too: a module often defines by platform."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions([*node.body, *node.orelse])


def _entry(signature: str, node: ast.ClassDef | _Function) -> str:
    text = _docstring(node)
    return f"{signature}\n{textwrap.indent(text, '    ')}" if text else signature


def _docstring(node: ast.Module | ast.ClassDef | _Function) -> str:
    return (ast.get_docstring(node) or "").strip()


def _class_line(node: ast.ClassDef, owner: str) -> str:
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        return f"class {owner}{node.name}({_arguments(init, bound=True)})"
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    return f"class {owner}{node.name}({bases})" if bases else f"class {owner}{node.name}"


def _function_line(node: _Function, owner: str) -> str:
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    if marks & {"property", "cached_property", "functools.cached_property"}:
        return f"{owner}{node.name}"
    word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    bound = bool(owner) and "staticmethod" not in marks
    return f"{word}{owner}{node.name}({_arguments(node, bound=bound)}){returns}"


def _arguments(node: _Function, *, bound: bool) -> str:
    """The parameters as one writes them; a bound method's first (`self`) is not for the caller."""
    text = ast.unparse(node.args)
    first = [*node.args.posonlyargs, *node.args.args][:1]
    if not (bound and first):
        return text
    return text.partition(", ")[2].removeprefix("/, ").removeprefix("/")
