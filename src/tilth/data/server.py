"""Imported for its effect, before all else of data, by the process that worker processes are copies of
(core/executors.py: warm_up).

Its copies import more than they make, as the command itself does: garbage is looked for less often.
"""

from __future__ import annotations

import gc

from tilth.data.lean import without_pandas

gc.set_threshold(100_000)
without_pandas()
