"""What starts when a text is asked for: neither torch's compiler nor computer algebra, a second of imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.families import VOCAB, make, save
from tilth.tokenizer import TokenizerConfig, train_tokenizer

SCRIPT = """
import sys
from tilth.jobs.load import load
model = load(sys.argv[1], device="cpu")
assert len(model.generate("a", max_new_tokens=3)) > 0
print(sorted({"torch._dynamo", "torch._inductor", "sympy", "transformers"} & set(sys.modules)))
import torch
with torch.device("meta"):
    torch.nn.Embedding(2, 2)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_no_compiler_is_imported_to_write_a_text(tmp_path: Path) -> None:
    folder = save(make("gpt2"), tmp_path)
    train_tokenizer(TokenizerConfig(kind="char"), [chr(33 + n) for n in range(VOCAB - 3)]).save(folder)
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], capture_output=True, text=True, check=True)
    nothing, by_torchs_own = done.stdout.splitlines()
    assert nothing == "[]"
    assert by_torchs_own == "True", "what is avoided here is no longer there: the classes may go"
