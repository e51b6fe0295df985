"""What a word on the command line means as data: a dataset's folder, a run's, or the name of a recipe.

locate_data(what, workspace) -> (Dataset, run folder or None)
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from tilth.core.config import load_yaml
from tilth.core.errors import DataError, RecipeError
from tilth.core.files import read_json
from tilth.data.dataset import Dataset, open_dataset

_MARK = re.compile(r"-[0-9a-f]{12}$")


def locate_data(what: Path | str, workspace: Path) -> tuple[Dataset, Path | None]:
    """The dataset that is meant, and the run folder where one was named.

    Args:
        what: a dataset's folder, a run's folder, a recipe's file, or the name of a recipe: then its newest dataset.
        workspace: where datasets of a recipe lie.
    """
    path = Path(what)
    if (path / "data.json").is_file():
        return _of_run(path), path
    if path.is_dir():
        return open_dataset(path), None
    name = str(what)
    if path.suffix in (".yaml", ".yml"):
        name = str(load_yaml(path).get("name"))
    return open_dataset(_newest(name, workspace / "datasets")), None


def _of_run(run: Path) -> Dataset:
    named = read_json(run / "data.json")
    dataset = open_dataset(Path(named["folder"]))
    if dataset.fingerprint != named["fingerprint"]:
        raise DataError(f"{dataset.folder} now holds another dataset than {run} was trained on", "prepare it again")
    return dataset


def _newest(name: str, folder: Path) -> Path:
    there = [path for path in folder.iterdir() if _MARK.search(path.name)] if folder.is_dir() else []
    own = [path for path in there if _MARK.sub("", path.name) == name]
    if own:
        return max(own, key=lambda path: (path.stat().st_mtime_ns, path.name))
    names = sorted({_MARK.sub("", path.name) for path in there})
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    remedy = f"did you mean {close[0]}?" if close else "name a dataset's or a run's folder, or `tilth prepare` a recipe"
    raise RecipeError(f"{name} is no folder, and no dataset of that name lies in {folder}", remedy)
