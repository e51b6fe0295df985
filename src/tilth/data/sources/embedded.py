"""The collections that come with tilth, as a listing.

list_builtin(config, root, downloads) -> Listing
"""

from __future__ import annotations

from pathlib import Path

from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import Listing
from tilth.data.sources.python_docs import list_modules
from tilth.data.sources.python_questions import list_questions

_FILES_OF = {"python_docs": list_modules, "python_questions": list_questions}


def list_builtin(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The files of a collection, which lie in the Python that runs tilth."""
    del root, downloads
    assert config.builtin is not None
    return Listing(tuple(_FILES_OF[config.builtin](config.source_name)))
