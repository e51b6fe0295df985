"""Standard output, where results go: a terminal, a file, a pipe whose reader has left, or nothing at all.

    ready_streams()      a stream that is closed, or cannot show a character, ends no command
    with results(): …    a reader who leaves is no fault; a disk that takes no more is one, and said
    print_json(value)    one line of strict JSON

What rich draws goes through `screen.py: show`: `--help` has no time for rich.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilth.core.errors import StorageError


def ready_streams() -> None:
    """Gives the process streams that it can write anything to.

    After `>&-` there is no stream; one in ASCII or Latin-1 would raise at the first "…", when all work is done.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def results() -> Iterator[None]:
    """What is printed here goes out, or nowhere: `… | head` is no fault. StorageError when a disk refuses it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _print_no_more()
    except OSError as error:
        if error.filename is not None:  # not the stream, which has no name
            raise
        _print_no_more()
        raise StorageError(
            f"cannot write to standard output: {error.strerror}", "make room, or send it elsewhere; the work is done"
        ) from error


def _print_no_more() -> None:
    """What is still in the buffer goes nowhere: Python would try again, and fail, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """Prints a value as JSON on the last line; a number that is none (nan) is null, which JSON has."""
    sys.stderr.flush()
    value = _strict(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal in ASCII, or a path that is not UTF-8: an escape says the same
        text = json.dumps(value, allow_nan=False)
    print(text, flush=True)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
