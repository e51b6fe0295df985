"""Holds the quickstart to its promises: runs a command, and reads from what it left whether they were kept.

    .ci/quickstart.py RUN COMMAND…      for example: .ci/quickstart.py runs/quickstart make quickstart

At most 180 s, under 4 GiB for all its processes together, and fewer bits per byte of the held-out text than xz -9e.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

MOST_SECONDS = 180
MOST_BYTES = 4 << 30


def faults(run: Path, seconds: float, peak: int) -> list[str]:
    """Each promise that was not kept, with its figures."""
    model = json.loads((run / "result.json").read_text())["validation"]["bits_per_byte"]
    xz = json.loads((run / "xz.json").read_text())["bits_per_byte"]
    print(f"quickstart: {seconds:.0f} s, {peak / 2**30:.2f} GiB, {model:.3f} bits per byte (xz -9e: {xz:.3f})")
    return [
        fault
        for fault, broken in {
            f"it took {seconds:.0f} s, more than {MOST_SECONDS}": seconds > MOST_SECONDS,
            f"it held {peak / 2**30:.2f} GiB, not under {MOST_BYTES >> 30}": peak >= MOST_BYTES,
            f"{model:.3f} bits per byte are not fewer than xz -9e's {xz:.3f}": not model < xz,
        }.items()
        if broken
    ]


def measured(words: list[str]) -> tuple[int, float, int]:
    """Exit code, seconds, and the most bytes that the command's processes held together (resident)."""
    started = time.monotonic()
    process = subprocess.Popen(words, start_new_session=True)
    together, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            together.append(held_by_session(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C reaches this process alone
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        ended.set()
        watcher.join()
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # exact, of the one largest process
    return code, time.monotonic() - started, max(*together, largest * (1 if sys.platform == "darwin" else 1024))


def held_by_session(session: int) -> int:
    """Resident bytes of all processes of a session; what they share counts for each (0 where there is no /proc)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # after the name, which may hold spaces
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def main() -> int:
    run, words = Path(sys.argv[1]), sys.argv[2:]
    code, seconds, peak = measured(words)
    broken = faults(run, seconds, peak) if code == 0 else [f"it ended with exit code {code}"]
    for fault in broken:
        print(f"quickstart: {fault}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
