"""Training to a loss: from the start of the process to a model whose full pass over the validation text is good enough.

tilth's side is the command itself with a recipe, in a new run folder and with another seed each time; the data is
prepared by a first run of two steps that does not count. It ends with the recipe's last
step: a recipe that ends above the loss with one of the seeds has no figure.
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
    sets = [f"data.sources={text}", "train.device=cpu", *options["set"]]  # where the peer is
    words = ["train", options["recipe"], "--workspace", "work", "--json"]
    command = [sys.executable, "-m", "tilth", *words, *(word for value in sets for word in ("--set", value))]

    def work(number: int, *more: str) -> dict[str, float]:
        start = time.perf_counter()
        words = [*command, "--run", f"run-{number}", "--set", f"train.seed={number}", *more]
        done = subprocess.run(words, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"tilth train: {done.returncode}: {done.stderr.strip()[-300:]}")
        result = json.loads(done.stdout.splitlines()[-1])
        return {"time": seconds, "loss": result["validation_loss"]}

    work(0, "--set", "train.steps=2")
    turns.ready(recipe=Path(options["recipe"]).name)
    for number in count(1):
        if not turns.wait():
            return
        figures = work(number)
        if figures["loss"] > options["loss"]:
            raise RuntimeError(f"seed {number} ends at {figures['loss']:.4f}, and not at {options['loss']} or less")
        turns.give(**figures)
