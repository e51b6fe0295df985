"""The hub itself, by `huggingface_hub`: a revision's commit, the files of a commit, one file; and its errors in words.

    Hub(name).commit(revision) -> str
    Hub(name).files(commit) -> [RemoteFile]
    Hub(name).download(file, commit, folder) -> Path       verified against what the listing says
    Hub(name, "model").keep(file, commit) -> Path          the same, in the library's own cache
    Hub(name, "model").cached(revision) -> Path | None     what that cache holds, without asking anybody

The address (HF_ENDPOINT), the login (HF_TOKEN or `hf auth login`), offline mode (HF_HUB_OFFLINE) and the cache are that
library's own. A token is never read here, so none can reach a recipe, a ledger or a log.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilth.core import progress
from tilth.core.errors import DataError, RecipeError
from tilth.core.files import disk, safe_join, storage_errors, write_file
from tilth.data.sources.hashes import file_hash

Kind = Literal["dataset", "model"]
_SPOKEN = {"dataset": "data set", "model": "model"}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of one commit: its name, size, and SHA-256 (large files) or git's SHA-1 of it (small ones)."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str


class Hub:
    """One data set, or one model, on the hub."""

    def __init__(self, dataset: str, kind: Kind = "dataset") -> None:
        self.dataset, self.kind, self.spoken = dataset, kind, _SPOKEN[kind]
        self._hub = library()
        # The library reads it when it is imported; given by hand it may be set later as well.
        self._api = self._hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="tilth")

    def commit(self, revision: str) -> str:
        """The commit (40 hex digits) that a branch or tag is now; offline, what the hub's cache last saw it as."""
        if self._hub.constants.is_offline_mode():
            return self._cached_commit(revision)
        with self.errors(revision):
            info = self._api.dataset_info if self.kind == "dataset" else self._api.model_info
            sha = info(self.dataset, revision=revision, expand=["sha"], timeout=60).sha
        if not isinstance(sha, str) or not sha:
            raise DataError(f"{self.dataset}@{revision}: the hub names no commit for it", "try again later")
        return sha

    def _cached_commit(self, revision: str) -> str:
        name = self._hub.file_download.repo_folder_name(repo_id=self.dataset, repo_type=self.kind)
        cache = Path(self._hub.constants.HF_HUB_CACHE) / name
        if (cache / "snapshots" / revision).is_dir():
            return revision
        try:
            return (safe_join(cache / "refs", revision)).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            raise self._not_here(revision) from None

    def files(self, commit: str) -> list[RemoteFile]:
        """All files of a commit, sorted by name; offline, as the hub's cache remembers them."""
        with self.errors(commit):
            if self._hub.constants.is_offline_mode():
                entries = self._hub.get_cached_repo_tree(self.dataset, repo_type=self.kind, revision=commit)
            else:
                entries = self._api.list_repo_tree(self.dataset, recursive=True, revision=commit, repo_type=self.kind)
            found = [e for e in entries if hasattr(e, "blob_id")]
        listed = [RemoteFile(e.path, e.size, e.lfs.sha256 if e.lfs else None, e.blob_id) for e in found]
        for file in listed:
            _harmless(file.name, self.dataset, self.spoken)
        return sorted(listed, key=lambda file: file.name)

    def download(self, file: RemoteFile, commit: str, folder: Path) -> Path:
        """The file, below `folder` (or where the hub's cache has it), once, resumed, and compared with its hash."""
        cached = self._hub.try_to_load_from_cache(self.dataset, file.name, revision=commit, repo_type=self.kind)
        if isinstance(cached, str) and is_whole(Path(cached), file):
            return Path(cached)
        target = safe_join(folder, file.name)
        if is_whole(target, file):
            return target
        with storage_errors(target):
            disk.remove(target)  # of another size or content: the library would trust its own note of it
            with self.errors(commit):
                self._hub.hf_hub_download(
                    self.dataset,
                    file.name,
                    repo_type=self.kind,
                    revision=commit,
                    local_dir=folder,
                    endpoint=self._api.endpoint,
                    library_name="tilth",
                    tqdm_class=_quiet(),
                )
            if not is_whole(target, file):
                aside = target.with_name(f"{target.name}.wrong")
                disk.replace(target, aside)
                raise DataError(
                    f"{self.dataset}@{commit[:12]}: {file.name} is not the file that the hub lists ({file.size} bytes)",
                    f"look at what came ({aside}), then type the same command",
                )
        return target

    def keep(self, file: RemoteFile, commit: str) -> Path:
        """The file in the library's own cache, where other programs find it too, compared with its hash."""
        cached = self._hub.try_to_load_from_cache(self.dataset, file.name, revision=commit, repo_type=self.kind)
        if isinstance(cached, str) and is_whole(Path(cached), file):
            return Path(cached)
        with storage_errors(Path(self._hub.constants.HF_HUB_CACHE)), self.errors(commit):
            path = Path(
                self._hub.hf_hub_download(
                    self.dataset,
                    file.name,
                    repo_type=self.kind,
                    revision=commit,
                    endpoint=self._api.endpoint,
                    library_name="tilth",
                    tqdm_class=_quiet(),
                    force_download=isinstance(cached, str),  # damaged: the library would trust it
                )
            )
        if not is_whole(path, file):
            raise DataError(
                f"{self.dataset}@{commit[:12]}: {file.name} is not the file that the hub lists ({file.size} bytes)",
                "type the same command: it is fetched again",
            )
        return path

    def remember(self, revision: str, commit: str) -> None:
        """Notes in that cache which commit a branch or tag was, as the library does where it asks for the branch."""
        name = self._hub.file_download.repo_folder_name(repo_id=self.dataset, repo_type=self.kind)
        if revision != commit:
            write_file(safe_join(Path(self._hub.constants.HF_HUB_CACHE) / name / "refs", revision), commit.encode())

    def cached(self, revision: str) -> Path | None:
        """The folder of a revision in the library's own cache, as it saw it last; None where it never did."""
        try:
            commit = self._cached_commit(revision)
        except DataError:
            return None
        name = self._hub.file_download.repo_folder_name(repo_id=self.dataset, repo_type=self.kind)
        folder = Path(self._hub.constants.HF_HUB_CACHE) / name / "snapshots" / commit
        return folder if folder.is_dir() else None

    @property
    def api(self) -> Any:
        """The library's own client of this hub."""
        return self._api

    @property
    def offline(self) -> bool:
        """Whether nobody may be asked (HF_HUB_OFFLINE)."""
        return bool(self._hub.constants.is_offline_mode())

    def address(self, name: str, commit: str) -> str:
        """Where a file of a commit is."""
        address: str = self._hub.hf_hub_url(
            self.dataset, name, repo_type=self.kind, revision=commit, endpoint=self._api.endpoint
        )
        return address

    def headers(self) -> dict[str, str]:
        """What the hub wants to see in a request, the user's login among it: for requests only, never to be written."""
        return dict(self._hub.utils.build_hf_headers(library_name="tilth"))

    @contextlib.contextmanager
    def errors(self, revision: str) -> Iterator[None]:
        """The errors of the library, and of its connection, as ours."""
        import httpx2

        try:
            yield
        except (self._hub.errors.LocalEntryNotFoundError, self._hub.errors.CachedRepoTreeNotFoundError) as error:
            raise self._translated(error.__cause__ or error, revision) from error
        except (self._hub.errors.HfHubHTTPError, self._hub.errors.OfflineModeIsEnabled, httpx2.HTTPError) as error:
            raise self._translated(error, revision) from error

    def _translated(self, error: BaseException, revision: str) -> DataError:
        errors, place = self._hub.errors, f"the {self.spoken} {self.dataset} (revision {revision})"
        absent = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.CachedRepoTreeNotFoundError)
        if isinstance(error, absent):
            return self._not_here(revision)
        if isinstance(error, errors.GatedRepoError):
            page = f"{self._api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.dataset}"
            return DataError(
                f"{place} is gated: its owner lets in who asks",
                f"ask for access at {page}, then log in with `hf auth login`, or set HF_TOKEN in the environment",
            )
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.RevisionNotFoundError):
            return DataError(f"{place}: there is no such revision", "write `revision: main`, or one the hub shows")
        if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
            return DataError(
                f"{place} is not there, or not for you (the hub answers {status})",
                "check the name; for a private one log in with `hf auth login`, or set HF_TOKEN in the environment",
            )
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return DataError(f"{place}: a file is gone: {_first_line(error)}", "name another revision, or other files")
        if status is not None:
            return DataError(f"{place}: the hub answers {status}", "try again later: what has come is kept")
        return DataError(
            f"{place}: the hub at {self._api.endpoint} cannot be reached: {_first_line(error)}",
            "check the network (and HF_ENDPOINT, where it is set); what has come is kept",
        )

    def _not_here(self, revision: str) -> DataError:
        return DataError(
            f"the {self.spoken} {self.dataset} (revision {revision}) is not on this machine, and the hub is not asked "
            "(HF_HUB_OFFLINE)",
            "unset HF_HUB_OFFLINE once, or bring the data set here and use `hub: {folder: …}`"
            if self.kind == "dataset"
            else "unset HF_HUB_OFFLINE once, or bring the folder of the model here and name it",
        )


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether a file has the size and the hash that the hub lists for it."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return file_hash(path) == file.sha256 if file.sha256 else _git_sha1(path) == file.git_sha1


def _git_sha1(path: Path) -> str:
    """The name that git gives a file's content; files small enough for git itself, so read whole."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _harmless(name: str, dataset: str, spoken: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"{dataset} lists a file {name!r}, which would lie elsewhere", f"do not use this {spoken}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _quiet() -> Any:
    """The library's progress bar, silent: what it would show goes to tilth's own display."""
    utils: Any = importlib.import_module("huggingface_hub.utils")

    def silence(self: Any, *args: Any, **kwargs: Any) -> None:
        utils.tqdm.__init__(self, *args, **{**kwargs, "disable": True})

    def update(self: Any, n: float | None = 1) -> None:
        del self
        progress.advance(int(n or 0))

    return type("Quiet", (utils.tqdm,), {"__init__": silence, "update": update})


def library() -> Any:
    """`huggingface_hub`, with the parts that are used; RecipeError where it is not installed."""
    try:
        for part in ("constants", "errors", "file_download", "utils"):  # it loads its parts when they are asked for
            importlib.import_module(f"huggingface_hub.{part}")
    except ImportError:
        raise RecipeError(
            "what comes from the hub needs the package huggingface_hub", "pip install 'tilth[hub]'"
        ) from None
    return importlib.import_module("huggingface_hub")
