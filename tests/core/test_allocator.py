"""What glibc keeps of freed memory, and how: real processes, whose blocks are looked at."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")

REUSED = """
import ctypes, os, sys
from tilth.core.allocator import drop_thread_caches, keep_freed_blocks, thread_caches
if len(sys.argv) > 2:
    sys.argv = ["other", "command"]  # as where another program's arguments stand there
drop_thread_caches()
keep_freed_blocks()
library, places = ctypes.CDLL(None), []
library.free.argtypes = [ctypes.c_void_p]

def block():
    place = ctypes.c_void_p()
    library.posix_memalign(ctypes.byref(place), 64, 12 << 20)  # as torch asks
    return place.value

first, second, third = block(), block(), block()
library.free(first)
library.free(second)
print(thread_caches(), block() in (first, second), os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.stdin.read())
"""


def run_script(
    tmp_path: Path, *words: str, tunables: str = "", python_path: Path | None = None
) -> tuple[list[str], int]:
    (tmp_path / "script.py").write_text(REUSED)
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    environment |= {"GLIBC_TUNABLES": tunables} if tunables else {}
    environment |= {"PYTHONPATH": os.pathsep.join([str(python_path), *sys.path])} if python_path else {}
    command = [sys.executable, "-X", "utf8", str(tmp_path / "script.py"), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        said, error = process.communicate("given")
    assert process.returncode == 0, error
    return said.split(), process.pid


def test_without_caches_a_freed_block_serves_the_next_of_its_size(tmp_path: Path) -> None:
    said, number = run_script(tmp_path, "train", tunables="glibc.malloc.check=0")
    assert said == ["False", "True", str(number), "glibc.malloc.check=0", "given"], "the same process, with its input"
    assert run_script(tmp_path, "train")[0][3] == "None", "what it begins itself has its caches again"


SMALL_ONES = """
import ctypes, resource
from tilth.core import allocator
if {kept}:
    allocator.keep_small_freed_blocks()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for turn in range(10):
    places = [library.malloc(10 << 20) for _ in range(5)]
    for place in places:
        ctypes.memset(place, 1, 10 << 20)
    for place in places:
        library.free(place)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_kept_blocks_are_not_cleared_anew() -> None:
    def faults(kept: bool) -> int:
        script = SMALL_ONES.format(kept=kept)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)

    assert faults(kept=False) > 2 * faults(kept=True)


def test_a_command_line_that_is_not_the_process_own_is_not_begun_anew(tmp_path: Path) -> None:
    said, number = run_script(tmp_path, "a", "notebook")
    assert (said[0], said[2]) == ("True", str(number))  # whether a block comes back is chance then
    said, number = run_script(tmp_path, "a", "notebook", tunables="glibc.malloc.tcache_count=0")
    assert said[:3] == ["False", "True", str(number)], "who wants it says so before it begins"


def test_who_takes_the_variable_away_is_not_begun_for_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ.pop('GLIBC_TUNABLES', None)")
    said, number = run_script(tmp_path, "train", python_path=tmp_path)
    assert said[2:] == [str(number), "None", "given"]


@pytest.mark.parametrize(
    "words", [["-c", REUSED, "train"], ["-", "train"], ["-m", "cProfile", "script.py", "train"]], ids=["-c", "-", "-m"]
)
def test_only_a_plain_command_line_is_begun_anew(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "script.py").write_text(REUSED)
    given = "given" if words[0] != "-" else REUSED
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, input=given, capture_output=True, text=True, check=True
    )
    assert "True" in done.stdout.split()[:1], "it keeps its caches, and does what it was begun for"


@pytest.mark.parametrize(("command", "times"), [("train", 2), ("quickstart", 2), ("evaluate", 1)])
def test_commands_that_train_begin_without_them(tmp_path: Path, command: str, times: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os; print(os.environ.get('GLIBC_TUNABLES', 'as it is'), flush=True)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    words = [sys.executable, "-m", "tilth", command, "--help"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    begun = [line for line in done.stdout.splitlines() if line in ("as it is", "glibc.malloc.tcache_count=0")]
    assert begun == ["as it is", "glibc.malloc.tcache_count=0"][:times] and f"tilth {command} [" in done.stdout


BLOCKS = """
import resource, sys
import numpy
from tilth.core import allocator
for way in sys.argv[1:]:
    getattr(allocator, way)()

def blocks():
    for _ in range(8):
        numpy.empty(40 << 20, numpy.uint8).fill(1)

blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(
    ("ways", "kept"),
    [([], False), (["keep_freed_blocks"], True), (["keep_freed_blocks", "return_freed_blocks"], False)],
)
def test_the_blocks_of_a_step_are_those_of_the_step_before(ways: list[str], kept: bool) -> None:
    # numpy asks for large pages, of which one fault brings 512 small ones
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
    done = subprocess.run([sys.executable, "-c", BLOCKS, *ways], env=environment, capture_output=True, check=True)
    assert (int(done.stdout) < 100) == kept


def test_what_arrow_has_kept_is_given_back() -> None:
    script = """
import pyarrow as pa
import pyarrow.compute as pc
from tilth.core.allocator import give_back_freed_blocks
from tilth.core.environment import held_memory_bytes
for _ in range(3):
    columns = [pa.array([f"{n} of many texts" for n in range(20_000)]) for _ in range(60)]
    columns += [pc.utf8_upper(column) for column in columns]
    del columns
before = held_memory_bytes()
give_back_freed_blocks()
assert held_memory_bytes() < before - (32 << 20)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
