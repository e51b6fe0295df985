"""Imported for its effect, by the process that worker processes are copies of (core/executors.py: warm_up).

Its copies make arrays of some MB and let them go, over and over: freed memory is kept for the next. And it leaves at
once when it is no longer asked: the interpreter would first take apart all that was imported, a tenth of a second in
which whoever reads what the command writes still waits for its end.
"""

from __future__ import annotations

import atexit
import os

from tilth.core.allocator import keep_small_freed_blocks

keep_small_freed_blocks()
atexit.register(os._exit, 0)
