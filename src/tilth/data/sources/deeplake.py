"""Deep Lake data sets on this machine: the columns that are asked for become a Parquet file, which is read as such.

    list_deeplake(config, root, downloads) -> Listing

The export is kept in `downloads/deeplake/`, named by the hashes of all files of the data set and by the columns, so the
library is needed once for each state of it. It runs in a process of its own (deeplake_export.py), whose proxies lead
nowhere: the library reports to its makers whenever it opens a data set, and has no switch for that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.errors import DataError, RecipeError
from tilth.core.files import FolderLock, new_folder, read_manifest
from tilth.data.document import Verdict, make_doc_id
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.hashes import file_hash
from tilth.data.sources.inputs import Input, Listing
from tilth.data.sources.shapes import shape_of

_FILE = "rows.parquet"
_NOWHERE = "http://127.0.0.1:9"  # discard: nothing listens there
_PROGRAM = Path(__file__).with_name("deeplake_export.py")


def list_deeplake(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The rows of a Deep Lake data set, as one Parquet file.

    Raises:
        DataError: there is no such folder, it is no such data set, or it lacks a column.
        RecipeError: the extra `deeplake` is not installed.
    """
    assert config.deeplake is not None
    folder = root / Path(config.deeplake).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"source {config.source_name}: there is no folder {folder}",
            f"check `deeplake: {config.deeplake}`; a data set elsewhere comes here by `deeplake.copy(FROM, TO)`",
        )
    shape = shape_of(config)
    columns = [*dict.fromkeys([*shape.columns, *shape.optional])]
    state = {
        path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    store = downloads / "deeplake"
    final = store / fingerprint({"state": state, "columns": columns})[:32]
    with FolderLock(store, "the folder of exported data sets"):
        if not final.is_dir():
            facts: dict[str, Any] = {}
            with new_folder(final, facts) as temporary:
                facts["rows"] = _export(config, folder, temporary / _FILE, columns)
        manifest = read_manifest(final)
    path, digest = final / _FILE, manifest["files"][_FILE]["sha256"]
    item = Input(config.source_name, "parquet", path, config.source_name, path.stat().st_size, digest)
    detail = f"{len(state)} files of Deep Lake: {manifest['rows']} rows of {', '.join(columns)}"
    said = Verdict(make_doc_id(config.source_name, "deeplake"), "list", "deeplake", "kept", final.name, detail)
    return Listing((item,), (said,))


def _export(config: SourceConfig, folder: Path, file: Path, columns: list[str]) -> int:
    if importlib.util.find_spec("deeplake") is None:
        raise RecipeError("a source `deeplake:` needs the package deeplake", "pip install 'tilth[deeplake]'")
    command = [sys.executable, "-P", str(_PROGRAM), str(folder.resolve()), str(file), *columns]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, errors="replace", check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise DataError(f"{folder}: Deep Lake's library failed: {last[:300]}", "look at the data set with `deeplake`")
    said = json.loads(lines[-1])
    if "fault" in said:
        known = ", ".join(f"{name!r} ({kind})" for name, kind in said.get("columns", {}).items())
        raise DataError(
            f"source {config.source_name}: {folder}: {said['fault']}{f'; the columns are {known}' if known else ''}",
            "name the column that holds the text with `field:`, or several with `template:` or `map:`",
        )
    return int(said["rows"])


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and "TOKEN" not in k.upper()}
    return kept | {
        name: _NOWHERE for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    }
