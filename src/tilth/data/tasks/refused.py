"""The task that says which conversations of a part no tokens will be made of, as far as their messages alone tell.

    refused    a part -> refused.bin (whether each document is)

The split asks for it where it has given one of its sides nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.core.files import read_manifest
from tilth.data.conversations import Encoder
from tilth.data.tasks.parts import Part, verified_array

VERSION = 1
REFUSED = "refused.bin"


def refused(folder: Path, part: Part, encoder: Encoder) -> dict[str, Any]:
    """Writes a flag for each document; facts: how many each rule refuses."""
    said = [encoder.refusal(document) for batch in part.batches() for document in batch]
    np.array([one is not None for one in said], np.bool_).tofile(folder / REFUSED)
    counts = Counter(f"encode/{one.rule}" for one in said if one is not None)
    return {"refused": dict(sorted(counts.items())), "rules": {}}


def refused_flags(folders: Sequence[Path]) -> npt.NDArray[np.bool_]:
    """Whether each document of all parts, end to end, is refused [n]."""
    return np.concatenate([verified_array(folder, REFUSED, np.bool_) for folder in folders])


def refused_by(folders: Sequence[Path]) -> dict[str, int]:
    """How many documents of all parts each rule refuses."""
    counts = Counter[str]()
    for folder in folders:
        counts.update(read_manifest(folder)["refused"])
    return dict(counts)
