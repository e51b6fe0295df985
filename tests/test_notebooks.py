"""Notebooks are scripts with cells: they run from above to below, use public names alone, and become .ipynb whole."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

import tilth
from tests.jobs.helpers import environment
from tests.test_docs import broken_links

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
OF_PEFT = "ignore:`is_gradient_checkpointing:FutureWarning"  # it asks transformers by an older name
SAID = {
    "char_gpt": ["[[", "809,216 parameters", "loss by chance", "held-out loss", "bits per byte: xz", "temperature 1.2"],
    "lora_chat": [
        "warning new_tokens: <|im_start|>, <|im_end|> are new",
        "warnings now: ['leaks', 'small_validation']",
        "[[It makes a class.]][[<|im_end|>]]",
        "base alone: loss",
        "assistant: ",
        "adapter_model.safetensors",
        "transformers: ",
        "PEFT: ",
    ],
}
"""Of what each prints, what must not be missing: most of its cells say something of it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAID))
def test_a_notebook_runs_and_says_what_it_teaches(name: str, tmp_path: Path) -> None:
    """In a folder of its own, without a network, for a few steps. That transformers and PEFT answer as the notebook's
    own model is asserted within.
    """
    words = [sys.executable, "-W", "error", "-W", OF_PEFT, str(FOLDER / f"{name}.py")]
    settings = environment(NOTEBOOK_STEPS="2", HF_HUB_OFFLINE="1")
    done = subprocess.run(words, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [part for part in SAID[name] if part not in done.stdout] == []
    assert [path.name for path in tmp_path.iterdir()] == [name.replace("_", "-")], "it writes into its own folder"


@pytest.mark.parametrize("name", ["notebooks/char_gpt.py", "notebooks/lora_chat.py", "docs/finetuning.md"])
def test_what_a_check_finds_is_told_before_its_rows_are_shown(name: str) -> None:
    """Of a run that must not begin there may be none."""
    text = (FOLDER.parent / name).read_text()
    assert 0 < text.index("assert found.ok, found.errors") < text.index("found.rows[0]")


def test_every_notebook_is_run() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(SAID)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_becomes_ipynb_whole(path: Path) -> None:
    """Text before code, links that lead somewhere, and the code of the script, in order."""
    made = nbformat.reads(jupytext.writes(jupytext.read(path), "ipynb"), as_version=4)
    nbformat.validate(made)
    kinds = [cell.cell_type for cell in made.cells]
    assert kinds[0] == kinds[-1] == "markdown" and "code" in kinds
    assert ("code", "code") not in itertools.pairwise(kinds)
    code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(path.read_text("utf-8")))
    text = "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    assert broken_links(path, text) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_public_names_alone(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    used = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tilth"
    }
    assert {"make_recipe", "check", "train", "load", "evaluate"} <= used <= set(tilth.__all__)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "tilth" in str(node.module)]
    assert not [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
                if alias.name.startswith("tilth.")]  # fmt: skip
