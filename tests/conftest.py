"""What holds for all tests: one thread, and what the fast ones may cost."""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Of the processes that tests start; tests run side by side, and torch is many times slower with more threads than
# processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How fast this machine is, is measured once for all tests, and not kept in the home of whoever runs them.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / f"tilth-tests-{os.getuid()}")

# pytest-xdist tells its workers how wide the terminal is; what is written into a pipe has no width.
os.environ.pop("COLUMNS", None)

hypothesis.settings.register_profile("fast", max_examples=10)

_LONGEST = {
    *("test_kill", "test_kill_prepare", "test_kill_tuning", "test_quickstart", "test_quickstart_chat"),
    *("test_out_of_memory", "test_distributed", "test_blocks", "test_forecast_run", "test_notebooks"),
}
_ALL_SLOW = re.compile(r"^pytestmark = pytest\.mark\.slow$", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("fast_seconds", "processor time that a test may take which is not marked slow", default="5")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, a file of nothing else is not even imported: that takes longer than many tests."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if _ALL_SLOW.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests first: where tests run side by side, what is left at the end can then be shared."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_runtest_setup() -> None:
    """Libraries draw weights without being asked for a seed: a test gets the same whatever ran before it."""
    random.seed(0)
    for name, seeded in (("torch", "manual_seed"), ("numpy.random", "seed")):
        if module := sys.modules.get(name):
            getattr(module, seeded)(0)


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that takes long must say so; by processor time, which a busy machine does not stretch much."""
    began = processor_seconds()
    yield
    spent, allowed = processor_seconds() - began, float(item.config.getini("fast_seconds"))
    if spent > allowed and item.get_closest_marker("slow") is None:
        pytest.fail(f"it took {spent:.1f} s of processor time: make it cheaper, or mark it slow", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models as small as these are slower on two threads, and many times slower beside other work."""
    import torch  # not above: the process that only hands out tests would load it before it starts the others

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
