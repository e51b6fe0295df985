"""What holds for all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Of the processes that tests start; tests run side by side, and torch is many times slower with more threads than
# processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How fast this machine is, is measured once for all tests, and not kept in the home of whoever runs them.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "tilth-tests")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models as small as these are slower on two threads, and many times slower beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
