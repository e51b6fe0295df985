"""Files of a folder or glob that were there when the data was last prepared, and are not now.

    last = LastFiles(workspace, recipe, source, root)
    last.gone(listing)      what should be said of them; None: nothing
    last.keep(listing)      at the end of a preparation: what the next one compares with

A dataset holds what the files say, so one that was lost by accident would be missed by nobody. The note is of a
recipe's name, a source with all its options, and the folder that paths start from: two recipes that share a source both
tell.
"""

from __future__ import annotations

from pathlib import Path

from tilth.core.config import fingerprint
from tilth.core.errors import IntegrityError, StorageError
from tilth.core.files import disk, read_sealed, storage_errors, write_sealed
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import Listing

_VERSION = 1
_SHOWN = 3


class LastFiles:
    """The note in the workspace of which files a source had."""

    def __init__(self, workspace: Path, recipe: str, source: SourceConfig, root: Path) -> None:
        key = fingerprint(["last files", recipe, source.model_dump(mode="json"), str(root.absolute())])
        self._note = workspace / "listings" / f"{key[:32]}.json"
        self._name = source.source_name
        # A file that is named alone ends the run when it is gone; what is brought from elsewhere is listed from there.
        self._of_many = source.path is not None and not (root / Path(source.path).expanduser()).is_file()

    def gone(self, listing: Listing) -> str | None:
        """What should be said of the files that are no longer there."""
        there = {item.locator for item in listing}
        if not self._of_many or not (lost := [file for file in self._read() if file not in there]):
            return None
        more = f" and {len(lost) - _SHOWN:,} more" if len(lost) > _SHOWN else ""
        files, were, are = ("file", "was", "is") if len(lost) == 1 else ("files", "were", "are")
        told = f"{len(lost):,} {files} that {were} there when this data was last prepared {are} gone"
        return f"source {self._name}: {told}: {', '.join(lost[:_SHOWN])}{more}"

    def keep(self, listing: Listing) -> None:
        """Writes down which files there are, if they are not those that were."""
        files = [item.locator for item in listing]
        if self._of_many and files != self._read():
            with storage_errors(self._note):
                disk.make_folder(self._note.parent)
                write_sealed(self._note, {"version": _VERSION, "locators": files})

    def _read(self) -> list[str]:
        try:
            content = read_sealed(self._note) if self._note.is_file() else {}
        except (IntegrityError, StorageError):
            return []  # damaged: nothing can be said this time
        return list(content["locators"]) if content.get("version") == _VERSION else []
