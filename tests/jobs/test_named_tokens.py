"""The tokens that a checkpoint names for jobs: a chat template writes them, so other ones are another dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.bases import SFT, tuning, write_base
from tilth.data.dataset import Dataset
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import load_recipe

pytestmark = pytest.mark.slow

_BEGUN = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_another_bos_token_is_another_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words and its ids are the same, and so is the tokenizer's fingerprint."""
    monkeypatch.chdir(tmp_path)
    place = write_base(tmp_path / "base", "llama") / "tokenizer_config.json"
    (tmp_path / "base" / "chat_template.jinja").write_text(_BEGUN)
    recipe = tuning(tmp_path, "base", **{**SFT, "data": {**SFT["data"], "chat": {"template": "checkpoint"}}})

    def begun_with(token: str) -> Dataset:
        place.write_text(json.dumps({**json.loads(place.read_text()), "bos_token": token}))
        dataset = prepare_data(load_recipe(recipe), tmp_path / "work", workers=1, root=tmp_path)
        assert int(dataset.stream("train").read(0, 1)[0]) == dataset.tokenizer.special_tokens[token]
        assert dataset.tokenizer.named_tokens["bos_token"] == token
        return dataset

    first, second, again = (begun_with(token) for token in ("<|im_start|>", "<|endoftext|>", "<|im_start|>"))
    assert first.tokenizer.fingerprint == second.tokenizer.fingerprint
    assert first.fingerprint == again.fingerprint != second.fingerprint
