"""The command `tilth`, and `python -m tilth`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from tilth.core.errors import interrupted

_TRAIN = ("train", "quickstart")


def main() -> None:
    """Runs the command line; what trains begins anew first, in a way that takes less memory."""
    try:
        if sys.argv[1:2] and sys.argv[1] in _TRAIN:
            from tilth.core.allocator import drop_thread_caches

            drop_thread_caches()
        from tilth.cli.main import main as run

        run()
    except KeyboardInterrupt:
        _leave()


def _leave() -> NoReturn:
    """Ends what was interrupted before the command line answers signals: what it needs was still being imported. So no
    more of that is imported here: a half of it is there, and fails.
    """
    import json
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who sends one sends several
    error = interrupted("SIGINT")
    if os.environ.get("RANK", "0") == "0":
        print(f"tilth: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            said = {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
            print(json.dumps({"error": said}))
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
