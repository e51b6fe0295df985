"""Arrow without pandas, for processes that want nothing of it.

    without_pandas()     called before the first array is made

The first array that Arrow makes has it import pandas, where that is installed, to know its types: a third of a second
of processor time for each process, and nothing here is of them. Whoever asks Arrow for a pandas object still gets one:
it then tries again; but what Arrow is given of pandas it takes for any sequence (NaN is no null). So this is for
tilth's own processes, and not for one that calls `tilth.prepare`. One that imported pandas itself is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa


class _Hidden:
    """A finder that says that there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ImportError("Arrow is to do without")
        return None


def without_pandas() -> None:
    """Has Arrow make its first array here and now, while no pandas is to be found."""
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _Hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_Hidden)
