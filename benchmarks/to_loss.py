"""Training to a loss: from the start of the process to a model whose full pass over the validation text is good enough.

tilth's side is the command itself with a recipe, in a new run folder each time; the data is prepared and what is
compiled is cached, by a first run that does not count. It ends with the recipe's last step: a recipe that ends above
the loss has no figure.
The peer's side is nano.py: the time of its steps, measured in turn with ours, times the steps that it is known to take
(decision 48); loading, compiling and its own evaluations are not counted against it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.worker import Turns


def tilth(turns: Turns, options: dict[str, Any]) -> None:
    """Seconds of `tilth train`, the process with all that belongs to it."""
    text = json.dumps([{"path": str(Path(options["folder"]) / "text.txt")}])
    sets = [f"data.sources={text}", *options["set"]]
    words = ["train", options["recipe"], "--workspace", "work", "--json"]
    command = [sys.executable, "-m", "tilth", *words, *(word for value in sets for word in ("--set", value))]

    def work(number: int) -> dict[str, float]:
        start = time.perf_counter()
        done = subprocess.run([*command, "--run", f"run-{number}"], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"tilth train: {done.returncode}: {done.stderr.strip()[-300:]}")
        result = json.loads(done.stdout)
        if result["validation_loss"] > options["loss"]:
            raise RuntimeError(f"it ends at {result['validation_loss']:.4f}, and {options['loss']} was to be reached")
        return {"time": seconds, "loss": result["validation_loss"]}

    work(0)
    turns.ready(recipe=Path(options["recipe"]).name)
    for number in count(1):
        if not turns.wait():
            return
        turns.give(**work(number))
