"""Which files a source has: sorted, hashed, and with a word on each that is left out.

list_inputs(config, root, downloads) -> Listing       by whoever its origin names: see origins.py
list_remembered(config, root, workspace) -> Listing   the same, without reading again what has not changed
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tilth.core.config import fingerprint
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.hashes import RememberedHashes, hashing
from tilth.data.sources.inputs import Listing


def list_inputs(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The files of one source. What belongs to one origin alone is imported when such a source is met.

    Args:
        config: the recipe's entry.
        root: the folder that relative paths start from (the recipe's).
        downloads: the folder for what a source brings or makes, in the workspace.

    Raises:
        DataError: nothing is there, nothing can be read, no suffix is known, or what came is not what it should be.
    """
    module, _, lister = config.origin.lister.partition(":")
    listing: Listing = getattr(import_module(module), lister)(config, root, downloads)
    return listing


def list_remembered(config: SourceConfig, root: Path, workspace: Path) -> Listing:
    """`list_inputs`, reading only files that are new or changed since the same source was last listed here."""
    # What `exclude:` lets pass was read before: it must not be read again because a pattern was added.
    key = fingerprint([config.model_dump(mode="json", exclude={"exclude"}), str(root.absolute())])
    remembered = RememberedHashes(workspace / "listings" / f"{key[:32]}.json")
    with hashing(remembered):
        listing = list_inputs(config, root, workspace / "downloads")
    remembered.save()
    return listing
