"""Where a source may come from: a row for each of the keys of which its entry in the recipe has exactly one.

    ORIGINS                          key -> Origin: all that the rest of tilth must know of an origin
    origin.lister                    who lists such a source: imported when one is met, by listing.py
    path_prefix(path), last_name     what a path says without naming this machine

What stands under a key is a field of its name in `SourceConfig` (config.py), which is given to the functions of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from tilth.data.sources.matching import GLOB_CHARACTERS

Reach = Literal["here", "made", "brought"]
"""What listing a source does: looks at files that are here, makes files of what is here, or goes over the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What holds for all sources of one origin.

    Attributes:
        key: its key in the recipe.
        lister: `module:function`, a function of (config, root, downloads) that gives the `Listing`.
        title: what documents are filed under where the source has no name; never where data lie on this machine.
        reach: what listing it does.
        csv: whether there may be CSV files in it, which `separator` is for.
        no_exclude: what to do instead of `exclude`; empty where that is for its files.
        unseen: why a forecast knows nothing of it as long as it is not here; by default: all of it must come first.
    """

    key: str
    lister: str
    title: Callable[[Any], str]
    reach: Callable[[Any], Reach]
    csv: bool
    no_exclude: str
    unseen: str = ""


def path_prefix(path: str) -> str:
    """A path as the recipe writes it, in posix form; empty for an absolute one, which names a machine."""
    if path.startswith("~") or Path(path).is_absolute():
        return ""
    return PurePosixPath(Path(path).as_posix()).as_posix()


def last_name(path: str) -> str:
    """`/data/web/**/*.txt` -> `web/**/*.txt`, `/data/web` -> `web`: no more of an absolute path than is needed."""
    parts = PurePosixPath(Path(path).as_posix()).parts
    wild = next((i for i, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(parts))
    return "/".join(part for part in parts[max(wild - 1, 0) :] if part not in ("/", "~")) or "files"


def _place_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


def _here(_: object) -> Reach:
    return "here"


def _brought(_: object) -> Reach:
    return "brought"


_WEB = "tilth.data.sources.web.listing:list_web"
_LEAVE_OUT = "leave it out"

_TABLE = (
    Origin(
        key="path",
        lister="tilth.data.sources.paths:list_path",
        title=lambda path: path_prefix(path) or last_name(path),
        reach=_here,
        csv=True,
        no_exclude="",
    ),
    Origin(
        key="url",
        lister="tilth.data.sources.paths:list_url",
        title=_place_of,
        reach=_brought,
        csv=True,
        no_exclude="",
        unseen="it is not downloaded yet, and nothing is downloaded for a forecast",
    ),
    Origin(
        key="builtin",
        lister="tilth.data.sources.embedded:list_builtin",
        title=str,
        reach=_here,
        csv=False,
        no_exclude=_LEAVE_OUT,
    ),
    Origin(
        key="crawl",
        lister=_WEB,
        title=lambda crawl: crawl.title,
        reach=_brought,
        csv=False,
        no_exclude="a crawl has its own: `crawl: {exclude: …}`",
    ),
    Origin(
        key="common_crawl",
        lister=_WEB,
        title=lambda web: web.title,
        reach=_brought,
        csv=False,
        no_exclude=_LEAVE_OUT,
    ),
    Origin(
        key="hub",
        lister="tilth.data.sources.hub:list_hub",
        title=lambda hub: hub.name,
        reach=lambda hub: "here" if hub.dataset is None else "brought",
        csv=True,
        no_exclude="`hub: {files: …}` names what is read",
        unseen="nothing of a data set on the hub is downloaded for a forecast",
    ),
    Origin(
        key="deeplake",
        lister="tilth.data.sources.deeplake:list_deeplake",
        title=last_name,
        reach=lambda _: "made",
        csv=False,
        no_exclude=_LEAVE_OUT,
    ),
    Origin(
        key="synthetic",
        lister="tilth.data.sources.synthetic.listing:list_synthetic",
        title=lambda wanted: wanted.title,
        reach=_brought,
        csv=False,
        no_exclude=_LEAVE_OUT,
    ),
)
ORIGINS = {origin.key: origin for origin in _TABLE}
