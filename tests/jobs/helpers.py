"""Runs of the real command on small texts."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

TEXT = "the a soil seed grows in of and rain sun deep green field under then slow water root leaf stone wind"
WORDS = TEXT.split()

SMALL = [
    "model={preset: llama-tiny, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, hidden_size: 32}",
    "model.context_length=16",
    "train.batch_tokens=256",
    "train.precision=fp32",
    "tokenizer={kind: byte}",
]


def write_texts(folder: Path, documents: int = 120, seed: int = 0) -> Path:
    """A folder of small files with text of a fixed vocabulary, two of them equal."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        sentences = (" ".join(draw.choices(WORDS, k=draw.randint(4, 12))) + "." for _ in range(draw.randint(3, 20)))
        (folder / f"{number:04d}.txt").write_text("\n".join(sentences) + "\n")
    (folder / "copy.txt").write_text((folder / "0000.txt").read_text())
    return folder


def write_recipe(path: Path, source: Path | str, **sections: Any) -> Path:
    """A small recipe, as JSON (which is YAML)."""
    recipe: dict[str, Any] = {
        "name": "small",
        "data": {"sources": [{"path": str(source)}]},
        "train": {"steps": 12, "schedule": {"name": "cosine", "warmup_steps": 2}},
        "sample": {"max_new_tokens": 8},
    }
    for name, section in sections.items():
        recipe[name] = {**recipe.get(name, {}), **section}
    path.write_text(json.dumps(recipe))
    return path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "CI": "1", "OMP_NUM_THREADS": "1", **more}


def command(*words: str | Path, sets: list[str] | None = None) -> list[str]:
    options = [part for value in sets or [] for part in ("--set", value)]
    return [sys.executable, "-W", "error", "-m", "tilth", *map(str, words), *options]


def tilth(
    *words: str | Path, cwd: Path, sets: list[str] | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        command(*words, sets=sets), cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=300
    )


def begun(words: list[str], cwd: Path) -> subprocess.Popen[str]:
    """Starts a command that will be killed, or of which only its faults are wanted."""
    return subprocess.Popen(
        words, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


class Process(Protocol):
    """`subprocess.Popen`, or what is as cheap as a copy (forked.py)."""

    returncode: Any

    def wait(self, timeout: float) -> int: ...

    def kill(self) -> None: ...

    def communicate(self) -> tuple[str, str]: ...


def killed(process: Process, seconds: float) -> bool:
    """Kills a process after so many seconds; False when it had ended well by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    _, said = process.communicate()
    assert process.returncode == 0, said
    return False


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of the last line of standard output."""
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
