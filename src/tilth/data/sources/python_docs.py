"""The embedded default: what the Python that runs tilth brings along, some 11 MB of prose and code, without a network.

    list_modules(source) -> [Input]     the language topics, and each module of the standard library
    read(intake) -> outcomes            topic:for         a chapter of the language reference (`help("for")`)
                                        doc:textwrap      the module's docstrings, each below its signature
                                        source:textwrap.py   its source

Nothing is imported: sources are read as data. Left out are tests, installed packages, caches, the character tables of
`encodings` (numbers, no text), and the files that describe this one interpreter (`_sysconfigdata*`, `config-*`,
`sitecustomize`), for they name paths and differ between machines. The texts are under Python's own licence, PSF-2.0.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources.docstrings import reference
from tilth.data.sources.inputs import Input, Kind
from tilth.data.sources.intake import Intake, Note, without_surrogates

LICENSE = "PSF-2.0"
_TOPICS = "pydoc_data/topics.py"
_LEFT_OUT_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings"}
_LEFT_OUT_MODULES = ("_sysconfigdata", "sitecustomize", "usercustomize")


def list_modules(source: str, folder: Path | None = None) -> list[Input]:
    """The files of the standard library (of `folder`, where given), sorted by locator; one with the topics first.

    Raises:
        DataError: this Python has no standard library as files (some embedded ones carry it as a zip).
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    found = sorted(path.relative_to(folder).as_posix() for path in _modules(folder))
    if not found:
        raise DataError(
            f"this Python has no sources of its standard library at {folder}",
            "run tilth with a full installation of Python, or use a `path:` of your own as the source",
        )
    inputs = []
    for name in found:
        data = (folder / name).read_bytes()
        kind: Kind = "topics" if name == _TOPICS else "module"
        locator = "topics" if name == _TOPICS else f"module:{name}"
        inputs.append(Input(source, kind, folder / name, locator, len(data), hashlib.sha256(data).hexdigest()))
    return sorted(inputs, key=lambda entry: (entry.kind != "topics", entry.locator))


def _modules(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for place, names, files in os.walk(folder):
        names[:] = [n for n in names if n not in _LEFT_OUT_FOLDERS and not n.startswith((".", "config-"))]
        for name in files:
            path = Path(place, name)
            wanted = name.endswith(".py") and not name.startswith((*_LEFT_OUT_MODULES, "."))
            if wanted and path.resolve().is_relative_to(root):  # a distribution's link into /etc is no part of Python
                yield path


def read(intake: Intake) -> Iterator[Outcome]:
    """The documents of one file that `list_modules` gave."""
    source = parsed(intake)
    if isinstance(source, Outcome):
        yield source
    elif intake.item.kind == "topics":
        yield from _topics(intake, source.tree)
    else:
        yield from _module(intake, source)


class Source(NamedTuple):
    """A file of the standard library.

    Attributes:
        path: below the library's folder, as `json/decoder.py`: what the splits keep together all that is made of it by.
        module: as one imports it, `json.decoder`.
    """

    path: str
    module: str
    text: str
    tree: ast.Module


def parsed(intake: Intake) -> Source | Outcome:
    """The file of an intake, or that it cannot be parsed, dropped. DataError when it is gone or changed."""
    intake.license = intake.license or LICENSE
    item = intake.item
    try:
        data = item.path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {item.path}: {error.strerror}", "install Python anew: a file is gone") from error
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise DataError(f"{item.path} changed while it was used", "let Python's update end, then type the same command")
    name = item.locator.partition(":")[2]
    try:
        with warnings.catch_warnings():  # old escapes in old modules are no concern of the one who trains on them
            warnings.simplefilter("ignore")
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = data.decode(encoding)
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        return intake.drop(item.locator, Note("unparsable", "", f"{item.locator}: {error}"))
    return Source(name, name.removesuffix(".py").removesuffix("/__init__").replace("/", "."), text, tree)


def _topics(intake: Intake, tree: ast.Module) -> Iterator[Outcome]:
    topics: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
    for name in sorted(topics):
        yield intake.from_text(f"topic:{name}", topics[name])
    if not topics:
        yield intake.drop(intake.item.locator, Note("unparsable", "", f"{_TOPICS} holds no dictionary of topics"))


def _module(intake: Intake, source: Source) -> Iterator[Outcome]:
    # Its docstrings stand in its source: the two must not part into training and validation, nor be measured twice.
    intake.meta = {"group": source.path, "twin": True}
    documentation = reference(source.module, source.tree)
    if documentation:
        documentation, lone = without_surrogates(documentation, f"doc:{source.module}")  # a docstring may spell one
        yield intake.from_text(f"doc:{source.module}", documentation, *lone)
    yield intake.from_text(f"source:{source.path}", source.text, meta={"code": "python"})
