"""Data sets of Hugging Face: from the hub or from a folder, to files that are read like any others.

    list_hub(config, root, downloads) -> Listing

    dataset              the revision's commit and its files are written down in `downloads/hub/` the first time, and
                         kept: later runs read the same bytes, without asking again. Remove that note to go on to
                         what the branch has become.
    dataset, streaming   no file comes; hub_stream.py reads what is wanted of each when its turn comes
    folder               what `save_to_disk` wrote (Arrow files), or files laid out as on the hub

hub_layout.py says which files are meant, hub_client.py talks to the hub. Locators are `ORG/NAME/path/in/it#row=1`:
another commit with the same file gives the same documents. The commit stands in the ledger (stage `list`, rule `hub`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import FolderLock, read_json, read_sealed, safe_join, write_json, write_sealed
from tilth.data.document import Verdict, make_doc_id
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.hashes import file_hash
from tilth.data.sources.hub_client import Hub, RemoteFile, is_whole
from tilth.data.sources.hub_config import HubConfig
from tilth.data.sources.hub_layout import Card, Choice, choose, read_card
from tilth.data.sources.inputs import Input, Kind, Listing

_LONGEST_CARD = 8 << 20


def list_hub(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The files of a `hub` source.

    Raises:
        DataError: the data set, its revision, configuration, split or files are not there, not for this user, or not
            readable without running code; or the hub cannot be reached and the files are not here.
        RecipeError: the extra `hub` is not installed.
    """
    assert config.hub is not None
    if config.hub.folder is not None:
        return _from_folder(config, config.hub, root / Path(config.hub.folder).expanduser())
    return _from_hub(config, config.hub, downloads / "hub")


def _from_hub(config: SourceConfig, hub: HubConfig, downloads: Path) -> Listing:
    assert hub.dataset is not None
    place = downloads / hub.dataset.replace("/", "--")  # as the hub's own cache writes it
    with FolderLock(place, "the download folder"):
        commit, files = _pinned(hub.dataset, hub.revision, place)
        copy = _Copy(hub.dataset, commit, place / commit)
        card = _card(copy, files.get("README.md"))
        choice = choose(files, card, hub, _given(config), f"{hub.dataset}@{hub.revision}")
        if hub.streaming and choice.kind != "parquet":
            raise DataError(
                f"{hub.dataset}@{hub.revision}: streaming reads Parquet, and these files are {choice.kind}",
                "leave `streaming:` out, or use the hub's own conversion with `revision: refs/convert/parquet`",
            )
        total = sum(files[name].size for name in choice.names)
        inputs, here = [], 0
        with progress.measured("downloading", hub.dataset, total=0 if hub.streaming else total) as meter:
            for name in choice.names:
                own = copy.input(config, choice.kind, files[name], streaming=hub.streaming)
                inputs.append(replace(own, license=card.license))
                here += files[name].size
                meter.had(0 if hub.streaming else here - meter.done)  # what was not sent was here
    return Listing(tuple(inputs), _said(config, choice, f"{hub.dataset} at commit {commit}", commit, card.license))


def _given(config: SourceConfig) -> Kind | None:
    return None if config.format == "auto" else config.format


def _pinned(dataset: str, revision: str, place: Path) -> tuple[str, dict[str, RemoteFile]]:
    """The commit that a revision was when it was first asked for, and the files of it."""
    note = place / f"revision-{revision.replace('/', '--')}.json"
    if note.is_file():
        try:
            said = read_sealed(note)
            return str(said["commit"]), {entry["name"]: RemoteFile(**entry) for entry in said["files"]}
        except (IntegrityError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{note} is not what was written", f"remove it: the revision {revision} is then looked up again"
            ) from error
    hub = Hub(dataset)
    commit = hub.commit(revision)
    files = hub.files(commit)
    write_sealed(
        note, {"dataset": dataset, "revision": revision, "commit": commit, "files": [asdict(f) for f in files]}
    )
    return commit, {file.name: file for file in files}


@dataclass(frozen=True, slots=True)
class _Copy:
    """What is here of one commit of a data set."""

    dataset: str
    commit: str
    folder: Path

    def bring(self, file: RemoteFile) -> Path:
        """The file, downloaded unless it is here: the library and the network are needed only then."""
        here = safe_join(self.folder, file.name)
        return here if is_whole(here, file) else Hub(self.dataset).download(file, self.commit, self.folder)

    def input(self, config: SourceConfig, kind: Kind, file: RemoteFile, *, streaming: bool) -> Input:
        """The file as an `Input`: brought here, or, when streaming, a note of where it is."""
        locator = f"{self.dataset}/{file.name}"
        if streaming and file.sha256 is not None:  # without a hash nothing would say which bytes were read
            note = {"dataset": self.dataset, "commit": self.commit, "name": file.name}
            path = safe_join(self.folder, ".streams", f"{fingerprint(note)[:32]}.json")
            if not path.is_file():
                write_json(path, note)
            return Input(config.source_name, "hub_stream", path, locator, file.size, file.sha256)
        path = self.bring(file)
        return Input(config.source_name, kind, path, locator, file.size, file.sha256 or file_hash(path))


def _card(copy: _Copy, readme: RemoteFile | None) -> Card:
    if readme is None:
        return Card()
    if readme.size > _LONGEST_CARD:
        raise DataError(f"{copy.dataset}: its README.md has {readme.size} bytes", "name the files with `files:`")
    return read_card(copy.bring(readme).read_text("utf-8", "replace"), f"{copy.dataset}/README.md")


def _from_folder(config: SourceConfig, hub: HubConfig, folder: Path) -> Listing:
    if not folder.is_dir():
        raise DataError(
            f"source {config.source_name}: there is no folder {folder}",
            f"check `folder: {hub.folder}`; for a data set on the hub write `hub: ORG/NAME`",
        )
    if (folder / "dataset_dict.json").is_file():
        folder, prefix = _saved_split(hub, folder)
    else:
        prefix = ""
    if (folder / "state.json").is_file():
        choice, license_ = _saved(folder), str(_json(folder / "dataset_info.json").get("license") or "") or None
    else:
        names = [path.relative_to(folder).as_posix() for path in _regular_files(folder)]
        readme = folder / "README.md"
        text = readme.read_text("utf-8", "replace") if readme.is_file() else ""
        card = read_card(text[:_LONGEST_CARD], str(readme))
        choice, license_ = choose(names, card, hub, _given(config), hub.name), card.license
    inputs = []
    for name in choice.names:
        path, locator = safe_join(folder, name), f"{hub.name}/{prefix}{name}"
        size, digest = path.stat().st_size, file_hash(path)
        inputs.append(Input(config.source_name, choice.kind, path, locator, size, digest, license_))
    return Listing(tuple(inputs), _said(config, choice, f"the folder {hub.name}", "", license_))


def _saved_split(hub: HubConfig, folder: Path) -> tuple[Path, str]:
    """The folder of one split of a `DatasetDict`."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    known = [str(split) for split in splits] if isinstance(splits, list) else []
    split = hub.split or ("train" if "train" in known else known[0] if len(known) == 1 else None)
    if split not in known:
        what = f"it has no split {split!r}" if split else "it has several splits, none of them `train`"
        raise DataError(f"{hub.name}: {what}", f"write `split:` with one of {', '.join(known) or 'those it has'}")
    return safe_join(folder, split), f"{split}/"


def _saved(folder: Path) -> Choice:
    """The Arrow files that `save_to_disk` names in state.json, in that order: it is the order of the rows."""
    entries = _json(folder / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    missing = [name for name in names if not isinstance(name, str) or not safe_join(folder, name).is_file()]
    if missing or not names:
        raise DataError(
            f"{folder} is not whole: state.json names {', '.join(map(str, missing)) or 'no file'}, which is not there",
            "save the data set again with `save_to_disk`",
        )
    return Choice(tuple(str(name) for name in names), "arrow")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except IntegrityError as error:
        raise DataError(error.message, "save the data set again with `save_to_disk`") from error
    return value if isinstance(value, dict) else {}


def _regular_files(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for place, folders, names in os.walk(folder):  # it does not follow links to folders
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in names):
            if path.is_file() and path.resolve().is_relative_to(root):
                yield path


def _said(config: SourceConfig, choice: Choice, what: str, commit: str, license_: str | None) -> tuple[Verdict, ...]:
    """For the ledger: which data set this is, and the files beside the chosen ones that are of another kind."""
    doc_id = make_doc_id(config.source_name, what)
    licensed = f", licence {license_} by its card" if license_ else ""
    verdicts = [Verdict(doc_id, "list", "hub", "kept", commit, f"{what}: {len(choice.names)} files{licensed}")]
    for name in choice.others:
        detail = f"{name}: most files of this data set are {choice.kind}"
        verdicts.append(Verdict(make_doc_id(config.source_name, name), "list", "other_format", "dropped", "", detail))
    return tuple(verdicts)
