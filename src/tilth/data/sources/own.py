"""What tilth itself wrote, where it lies among the texts of a source: it is no text, and changes with every command.

    own = OwnFiles(root, workspace)
    own.of_folder(path)  own.of_file(path)     the place that it belongs to and what that is; None: it is the user's

Workspaces, run folders, datasets, exports, recipes and pages of `tilth report` are known by what is in them, never
by what they are called: a folder `work` that holds texts is read, and so are texts that lie in a workspace beside what
tilth keeps there, and in an export those that its manifest does not list. Who names a run folder or an export as the
source, or a folder in one or in a workspace, means it: only what lies below the folder that was named is looked at. Of
a workspace that is named, what is kept in it is left out.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tilth.core.config import parse_yaml
from tilth.core.errors import RecipeError
from tilth.core.progress import FOLDER as PROGRESS

RULE = "own_files"
"""Of the verdicts on it. They do not decide what a source holds: that is the same before and after a run."""
WORKSPACE = "a workspace of tilth: what is kept in it is no text"
RUN = "a run folder of tilth"
DATASET = "a dataset of tilth"
EXPORT = "a model that tilth exported"
RECIPE = "a recipe of tilth"
PAGE = "a page of tilth report"
Own = tuple[Path, str]
_KEPT = frozenset({"forecast", PROGRESS, ".lock"})
"""All that lies below these is tilth's; below those of `_MADE` what is called so, and what is half-made."""
_MADE = {
    "tasks": re.compile(r"[a-z_]+-[0-9a-f]{20}"),
    "datasets": re.compile(r".+-[0-9a-f]{12}"),
    "prepared": re.compile(r".+-[0-9a-f]{20}\.json"),
    "listings": re.compile(r"[0-9a-f]{32}\.json"),
    "downloads": re.compile(r"[0-9a-f]{16}-.+|(?:crawl|records)-[0-9a-f]{16}.*|hub|synthetic|deeplake"),
}
_MARKS = _MADE.keys() - {"downloads"}
"""What tells a workspace: the names of downloads alone are too little."""
_LARGEST_RECIPE, _LARGEST_MANIFEST = 64 << 10, 16 << 20
_RECIPES = (".yaml", ".yml", "recipe.json")
"""How names of recipes end. Not any `.json`: there may be millions of them, and each would be read."""
_PAGES = (".html", ".htm")
_PAGE_BEGINS = 512
PAGE_MARK = b'<meta name="generator" content="tilth">'
_MENTIONED = (b"name", b"data", b"sources", b"train")


class OwnFiles:
    """Tells what tilth wrote from texts, below one folder.

    Args:
        root: the folder; as a run folder or an export it is read all the same.
        workspace: the one in use, in which there may be nothing yet that tells what it is.
    """

    def __init__(self, root: Path, workspace: Path) -> None:
        self._root, self._workspace = root, workspace.resolve()
        self._folders: dict[Path, Own | None] = {}
        self._workspaces: dict[Path, bool] = {}
        self._exports: dict[Path, frozenset[str]] = {}

    def of_folder(self, folder: Path) -> Own | None:
        """The workspace, run folder or dataset that a folder belongs to, or is."""
        if folder == self._root:
            return None
        if folder not in self._folders:
            self._folders[folder] = self._inside(folder) or _itself(folder)
        return self._folders[folder]

    def of_file(self, file: Path) -> Own | None:
        """The workspace, run folder, dataset or export that a file is of; or the file, if it is a recipe or a page."""
        if own := self._inside(file) or self._exported(file):
            return own
        if file.name.endswith(_RECIPES):
            return (file, RECIPE) if _is_recipe(file) else None
        return (file, PAGE) if file.name.endswith(_PAGES) and _is_page(file) else None

    def _inside(self, path: Path) -> Own | None:
        if own := self.of_folder(path.parent):
            return own
        if path.name in _KEPT and self._is_workspace(path.parent):
            return path.parent, WORKSPACE
        made, space = _MADE.get(path.parent.name), path.parent.parent
        if path.parent == self._root or made is None or not (made.fullmatch(path.name) or path.name.startswith(".")):
            return None
        if made is _MADE["datasets"] and not path.name.startswith(".") and not _is_dataset(path):
            return None
        return (space, WORKSPACE) if self._is_workspace(space) else None

    def _exported(self, file: Path) -> Own | None:
        """The export whose manifest lists a file."""
        for folder in file.parents:
            if not folder.is_relative_to(self._root) or folder == self._root:
                break
            if folder not in self._exports:
                self._exports[folder] = _files_of_export(folder)
            if file.relative_to(folder).as_posix() in self._exports[folder]:
                return folder, EXPORT
        return None

    def _is_workspace(self, folder: Path) -> bool:
        if folder not in self._workspaces:
            marks = _is_file(folder / ".lock") + sum(_made_in(folder / name, _MADE[name]) for name in _MARKS)
            self._workspaces[folder] = folder.resolve() == self._workspace or marks >= 2
        return self._workspaces[folder]


def _made_in(folder: Path, called: re.Pattern[str]) -> bool:
    """Whether something lies in a folder that is called as only tilth calls its results."""
    try:
        with os.scandir(folder) as entries:
            return any(called.fullmatch(entry.name) for entry in entries)
    except OSError:
        return False


def _itself(folder: Path) -> Own | None:
    if _is_run(folder):
        return folder, RUN
    return (folder, DATASET) if _is_dataset(folder) else None


def _is_dataset(folder: Path) -> bool:
    return "dataset_version" in _manifest(folder)


def _files_of_export(folder: Path) -> frozenset[str]:
    said = _manifest(folder)
    made = said.get("format") in ("huggingface", "peft") and isinstance(said["files"], dict)
    return frozenset([*said["files"], "manifest.json"]) if made else frozenset()


def _manifest(folder: Path) -> dict[str, Any]:
    """What a folder's manifest says, if it is one of tilth's."""
    manifest = folder / "manifest.json"
    try:
        if not manifest.is_file() or manifest.stat().st_size > _LARGEST_MANIFEST:
            return {}
        said: Any = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and {"files", "seal"} <= said.keys() else {}


def _is_page(file: Path) -> bool:
    """Whether the file says near its beginning that tilth wrote it; no more of it is read."""
    try:
        if not file.is_file():  # a pipe would be waited for
            return False
        with file.open("rb") as opened:
            return PAGE_MARK in opened.read(_PAGE_BEGINS)
    except OSError:
        return False


def _is_run(folder: Path) -> bool:
    beside = any(_is_file(folder / name) for name in ("data.json", ".lock"))
    return beside and _is_recipe(folder / "recipe.json")


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - in a folder that must not be gone into, Python 3.11's method raises


def _is_recipe(file: Path) -> bool:
    """Whether a file holds what every recipe has. What is no recipe is hardly ever read to its end for it."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_RECIPE:
            return False
        raw = file.read_bytes()
        said: Any = _parsed(raw, file) if all(word in raw for word in _MENTIONED) else None
    except (OSError, ValueError, RecursionError, RecipeError):
        return False
    data = said.get("data") if isinstance(said, dict) and said.keys() >= {"name", "data", "train"} else None
    return isinstance(data, dict) and "sources" in data


def _parsed(raw: bytes, file: Path) -> Any:
    text = raw.decode("utf-8-sig")
    return json.loads(text) if file.suffix == ".json" else parse_yaml(text, str(file))
