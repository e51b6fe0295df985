"""What a word on the command line means as data: a dataset's folder, a run's, or the name of a recipe.

locate_data(what, workspace) -> (Dataset, run folder or None)
"""

from __future__ import annotations

import contextlib
import difflib
import re
from pathlib import Path

from tilth.core.config import load_yaml
from tilth.core.errors import RecipeError
from tilth.core.files import MANIFEST, require_utf8
from tilth.data.dataset import Dataset, open_dataset
from tilth.jobs.runs import dataset_of

_MARK = re.compile(r"-[0-9a-f]{12}$")


def locate_data(what: Path | str, workspace: Path) -> tuple[Dataset, Path | None]:
    """The dataset that is meant, and the run folder where one was named.

    Args:
        what: a dataset's folder or its name in the workspace, a run's folder, a recipe's file, or the name of a recipe:
            then the dataset that was prepared or looked for last.
        workspace: where datasets of a recipe lie.
    """
    dataset, run = _meant(what, workspace)
    require_utf8(dataset.folder)
    return dataset, run


def _meant(what: Path | str, workspace: Path) -> tuple[Dataset, Path | None]:
    path = Path(what)
    if _is_run(path):
        return dataset_of(path), path
    if _is_dataset(path):
        return open_dataset(path), None
    name = str(what)
    if path.suffix in (".yaml", ".yml"):
        name = str(load_yaml(path).get("name"))
    elif path.name == name and _is_dataset(folder := workspace / "datasets" / name):
        return open_dataset(folder), None  # as it is called there
    return open_dataset(_newest(name, workspace / "datasets")), None


# A folder of texts may have the name of its recipe, and hold files called data.json or manifest.json.


def _is_run(path: Path) -> bool:
    return (path / "data.json").is_file() and ((path / "recipe.json").is_file() or _has(path / "data.json", "from_run"))


def _is_dataset(path: Path) -> bool:
    return path.is_dir() and (bool(_MARK.search(path.absolute().name)) or _has(path / MANIFEST, "dataset_version"))


def _has(path: Path, key: str) -> bool:
    """Whether a file of tilth's is there, be it damaged."""
    with contextlib.suppress(OSError):
        return f'"{key}"'.encode() in path.read_bytes()
    return False


def _newest(name: str, folder: Path) -> Path:
    there = [path for path in folder.iterdir() if _MARK.search(path.name)] if folder.is_dir() else []
    own = [path for path in there if _MARK.sub("", path.name) == name]
    if own:
        return max(own, key=lambda path: (path.stat().st_mtime_ns, path.name))
    names = sorted({_MARK.sub("", path.name) for path in there})
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    remedy = f"did you mean {close[0]}?" if close else "name a dataset's or a run's folder, or `tilth prepare` a recipe"
    if not there:
        remedy = f"type it where {folder} was made, or name its workspace by --workspace DIR; otherwise {remedy}"
    what = "is neither a dataset's folder nor a run's" if Path(name).is_dir() else "is no folder"
    raise RecipeError(f"{name} {what}, and no dataset of that name lies in {folder.absolute()}", remedy)
