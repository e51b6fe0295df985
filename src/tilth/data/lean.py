"""Imported for its effect, by processes that are tilth's own (the command, its workers): Arrow works without pandas.

The first array that Arrow makes has it import pandas, where that is installed, to know its types: a third of a second
of processor time for each process, and nothing here is of them. Whoever asks Arrow for a pandas object still gets one:
it then tries again. A process that imported pandas itself is left as it is.

And garbage is looked for less often, as in the command itself: workers import more than they make.
"""

from __future__ import annotations

import gc
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


def _make_first_array() -> None:
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _Hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_Hidden)


gc.set_threshold(100_000)
_make_first_array()
