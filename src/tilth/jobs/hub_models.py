"""A model of the Hugging Face hub as a folder: only the files that are needed, verified, kept in the hub's own cache.

    names_hub_model(what) -> bool           whether a word is a hub id rather than a path
    hub_folder(what) -> Path                ORG/NAME or ORG/NAME@REVISION
    at_commit(what, folder) -> str          the name of that folder for good: ORG/NAME@COMMIT

The hub is asked for the commit and its listing each time, and only for files that are not there whole. Where it cannot
be reached, or must not be asked (HF_HUB_OFFLINE), what the cache holds of the revision is used, compared with the
hashes that the cache names its files by.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tilth.core.errors import CheckpointError, DataError
from tilth.core.files import hash_file
from tilth.data.sources.hub_client import Hub, RemoteFile
from tilth.tokenizer.hf_format import TOKENIZER_FILES

_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?", re.ASCII)
_NEEDED = {*TOKENIZER_FILES, "config.json", "generation_config.json", "model.safetensors.index.json"}


def names_hub_model(what: str) -> bool:
    """Whether `what` reads as ORG/NAME, and no folder ORG is here in which NAME could have been meant."""
    return _ID.fullmatch(what) is not None and what.split("/")[0] != "runs" and not Path(what).parent.exists()


def hub_folder(what: str) -> Path:
    """The folder of a hub model in the hub's cache. DataError when it is neither there nor to be had."""
    match = _ID.fullmatch(what)
    assert match is not None, "names_hub_model said so"
    name, revision = match[1], match[2] or "main"
    hub = Hub(name, "model")
    if hub.offline:
        return _from_cache(hub, revision, f"the hub is not asked (HF_HUB_OFFLINE) for {name}")
    try:
        commit = hub.commit(revision)
        files = hub.files(commit)
    except DataError as error:
        if "cannot be reached" not in error.message:
            raise
        return _from_cache(hub, revision, error.message)
    folder = _fetch(hub, commit, files)
    hub.remember(revision, commit)  # now that all of it is here
    return folder


def at_commit(what: str, folder: Path) -> str:
    """What leads to `folder`, which `hub_folder` gave for `what`, wherever its branch is by now: its last part is the
    commit.
    """
    return f"{what.partition('@')[0]}@{folder.name}"


def _fetch(hub: Hub, commit: str, files: list[RemoteFile]) -> Path:
    wanted = [file for file in files if _is_needed(file.name, files)]
    paths = {file.name: hub.keep(file, commit) for file in wanted}
    if "config.json" not in paths:
        raise CheckpointError(f"{hub.dataset}@{commit[:12]} has no config.json", "name a repository of a model")
    if not any(name.endswith(".safetensors") for name in paths):
        raise CheckpointError(
            f"{hub.dataset}@{commit[:12]} has no weights in safetensors (it lists {len(files)} files)",
            "look for a revision that has them: the hub converts on request, as refs/pr/…",
        )
    return paths["config.json"].parent


def _is_needed(name: str, files: list[RemoteFile]) -> bool:
    """Configuration, tokenizer and weights at the top of the repository; of weights, one file where there is one."""
    if name in _NEEDED:
        return True
    single = any(file.name == "model.safetensors" for file in files)
    return name == "model.safetensors" if single else re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) is not None


def _from_cache(hub: Hub, revision: str, why: str) -> Path:
    folder = hub.cached(revision)
    if folder is None or not (folder / "config.json").exists():
        raise DataError(
            f"{why}, and nothing of {hub.dataset} (revision {revision}) is in the hub's cache on this machine",
            "connect once, or bring the folder of the model here and name it",
        )
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        _verify(path)
    return folder


def _verify(path: Path) -> None:
    """The cache names what a file links to by its hash: SHA-256, or git's SHA-1 of small files."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        whole = hash_file(path) == name
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        data = path.read_bytes()
        whole = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == name
    else:
        return
    if not whole:
        raise CheckpointError(f"{path} is damaged: its hash is another", "remove it, and fetch it again with a network")
