"""What a step takes and computes, in few numbers; kept for this user, so that equal shapes are run on paper once.

    known(facts, make) -> Figures       the kept ones, else those of the footprint that `make` gives

To run code on paper (meter.py) loads torch's compiler, and takes a second or two: a third of the start of a small run.
The facts must say all that the footprint follows from; the code of model and training, and torch's version, are added
here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.environment import cache_folder
from tilth.core.errors import TilthError
from tilth.core.files import disk, read_sealed, write_sealed
from tilth.training.footprint import Footprint, When
from tilth.training.meter import Kind, Peak

_MOST = 512  # that are kept, of about 4 kB
_FOLDERS = ("model", "training", "evaluation")  # where the code is that is run on paper
_FILES = ("data/batches/batch.py", "data/batches/feed.py", "jobs/around.py", "jobs/forecasting/paper_run.py")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a footprint.

    Attributes:
        peaks: the most that is held, in a step and in an evaluation.
        micro, update: work of one micro-batch, and of the optimizer after the last.
        fresh: they were made in this process, which has torch's compiler loaded since.
    """

    peaks: dict[When, Peak]
    micro: Counter[Kind]
    update: Counter[Kind]
    fresh: bool


def known(facts: Any, make: Callable[[], Footprint]) -> Figures:
    """The figures of what these facts describe; made where there are none, or none that are whole."""
    path = cache_folder() / "footprints" / f"{fingerprint([facts, version('torch'), _code()])[:32]}.json"
    with contextlib.suppress(TilthError, KeyError, TypeError, ValueError):
        kept = read_sealed(path)
        peaks = {name: Peak(**peak) for name, peak in kept["peaks"].items()}
        return Figures(peaks, _counted(kept["micro"]), _counted(kept["update"]), fresh=False)
    found = make()
    with contextlib.suppress(TilthError, OSError):  # where nothing can be kept it is made each time
        disk.make_folder(path.parent)
        _make_room(path.parent)
        plain = {name: asdict(peak) for name, peak in found.peaks.items()}
        write_sealed(path, {"peaks": plain, "micro": _plain(found.micro), "update": _plain(found.update)})
    return Figures(found.peaks, found.micro, found.update, fresh=True)


def _plain(work: Counter[Kind]) -> list[list[Any]]:
    return [[*astuple(kind), calls] for kind, calls in work.items()]


def _counted(rows: list[list[Any]]) -> Counter[Kind]:
    return Counter({Kind(*kind): calls for *kind, calls in rows})


def _make_room(folder: Path) -> None:
    """Removes the oldest half where there are many."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[: len(files) // 2] if len(files) >= _MOST else ():
        disk.remove(path)


@functools.cache
def _code() -> str:
    """A hash of the code that is run on paper: figures of other code are no longer true."""
    package = Path(__file__).parents[1]
    files = [package / name for name in _FILES]
    files += [file for name in _FOLDERS for file in (package / name).rglob("*.py")]
    hashed = hashlib.sha256()
    for file in sorted(files):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
