"""What glibc does with memory that is freed; other C libraries are left alone.

    drop_thread_caches()            this process begins anew, without what leaves holes between blocks
    thread_caches() -> bool         whether it has them
    keep_freed_blocks()             for the next that asks
    keep_small_freed_blocks()       so many MiB of them
    return_freed_blocks()           to the system, at once
    give_back_freed_blocks()        what was kept

torch asks for blocks that begin at a multiple of 64 bytes. glibc takes a slightly larger one and frees what is over at
both ends, a few bytes each, which go to the caches of small blocks of the thread that asks. There they count as taken:
a block that is freed later cannot be joined with its neighbours, is 96 bytes too small for the next of the same size,
and stays a hole. Six of GPT-2's activation functions, written out, take 59 blocks where 27 are alive (decision 60).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_TUNABLES, _NO_CACHES = "GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"
_BEGUN = "_TILTH_BEGUN_ANEW"
_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = 1, -1, -3  # malloc.h
_caches = _NO_CACHES not in os.environ.get(_TUNABLES, "").split(":")


def drop_thread_caches() -> None:
    """Switches glibc's caches of small blocks off. That can be done as a process begins and not later, so this one
    executes its own command line once more; what it was given, and its number, stay. Call it before anything is done.

    Nothing happens elsewhere, nor where the process was not begun as `tilth` or `python -m tilth` are: in a test, a
    notebook, under a debugger or a profiler.
    """
    before = os.environ.get(_TUNABLES)
    given = [one for one in (before or "").split(":") if one]
    if os.environ.pop(_BEGUN, "") == str(os.getpid()):  # once is enough, whether it helped or not
        _tell(":".join(one for one in given if one != _NO_CACHES))  # processes that this one begins do other work
        return
    if not _caches or not is_glibc() or not _is_plain():
        return
    _tell(":".join([*given, _NO_CACHES]))
    os.environ[_BEGUN] = str(os.getpid())
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # it can train as it is
        del os.environ[_BEGUN]
        _tell(before)


def _is_plain() -> bool:
    """Whether the interpreter was given this command line and nothing that stands in between."""
    own = sys.argv[1:]
    if not own or sys.orig_argv[-len(own) :] != own or sys.gettrace() or sys.getprofile() or not sys.executable:
        return False
    words = sys.orig_argv[1 : -len(own)]
    if words[-2:] == ["-m", "tilth"]:
        options = words[:-2]
    elif words and words[-1] == sys.argv[0] and Path(words[-1]).is_file():
        options = words[:-1]
    else:
        return False
    values = {n + 1 for n, word in enumerate(options) if word in ("-X", "-W")}
    return all(n in values or (word[:1] == "-" and word not in ("-", "-m", "-c")) for n, word in enumerate(options))


def _tell(tunables: str | None) -> None:
    if tunables:
        os.environ[_TUNABLES] = tunables
    else:
        os.environ.pop(_TUNABLES, None)


def thread_caches() -> bool:
    """Whether small blocks that are freed are kept by glibc in a way that leaves holes between large ones."""
    return _caches


def keep_freed_blocks() -> None:
    """Lets glibc keep what is freed for the next that asks, in this process from here on, but for blocks of 48 MiB and
    more, whose holes would be large; elsewhere nothing happens.

    A step asks for the same blocks as the one before. By default glibc gives back to the system what is free at the end
    of its heap, and the system clears every page anew when it is first written to: decision 58 has the figures.
    """
    _set(trim=-1, mapped_from=48 << 20)


def keep_small_freed_blocks() -> None:
    """As `keep_freed_blocks`, for blocks below 32 MiB, and at most 64 MiB at the end of the heap: what works on arrays
    of some MB is spared the clearing of their pages, and holds little more than it needs.
    """
    _set(trim=64 << 20, mapped_from=32 << 20)


def return_freed_blocks() -> None:
    """Lets glibc map each block of a MiB or more by itself, from here on and in this process, so that freed ones go
    back to the system at once; on other systems nothing happens.

    Without, freed blocks leave holes. The price is that the system clears the pages of every new block.
    """
    _set(trim=128 << 10, mapped_from=1 << 20)


def give_back_freed_blocks() -> None:
    """Gives back once what `keep_freed_blocks` has kept, or other work of this process has left. Arrow keeps a store of
    its own: 100 MB and more where data was prepared.
    """
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    if is_glibc():
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def is_glibc() -> bool:
    """Whether this is a Linux with GNU's C library."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, another library
        return False


def _set(*, trim: int, mapped_from: int) -> None:
    if is_glibc():
        if not _caches:
            _mallopt(_M_MXFAST, 0)  # nor those behind them, which take what they do not
        _mallopt(_M_TRIM_THRESHOLD, trim)
        if not _mallopt(_M_MMAP_THRESHOLD, mapped_from):
            _mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that older versions take


def _mallopt(what: int, value: int) -> int:
    import ctypes  # 10 ms that most commands need not wait for

    return int(ctypes.CDLL(None).mallopt(what, value))
