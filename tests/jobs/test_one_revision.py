"""A model of the hub whose branch moves while a command goes on: data, preflight and weights are of one revision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file

import tilth
from tests.data.hub_server import HubServer, running_hub
from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import Cli
from tests.jobs.helpers import TEXT, last_json
from tests.jobs.test_distributed import together
from tests.tokenizer import foreign_kinds
from tilth.checkpoint.trainable import base_fingerprint
from tilth.jobs.places import read_base
from tilth.jobs.recipe import load_recipe
from tilth.jobs.runs import dataset_of

pytestmark = pytest.mark.slow

FIRST, SECOND = "1" * 40, "2" * 40


def other_revision(folder: Path) -> Path:
    """Other weights of the same shape, and another tokenizer."""
    write_base(folder, "llama")
    weights = folder / "model.safetensors"
    tensors = {name: tensor * 2 for name, tensor in load_file(weights).items()}
    weights.unlink()
    save_file(tensors, weights, {"format": "pt"})
    return foreign_kinds.llama3(folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The model org/model, whose `main` is at another revision as soon as it was asked for."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH"):  # of this process, and of those that it starts
        monkeypatch.setenv(name, str(tmp_path / name))
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path / name))
    folders = {FIRST: write_base(tmp_path / FIRST, "llama"), SECOND: other_revision(tmp_path / SECOND)}
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        for commit, folder in folders.items():
            server.commits[commit] = commit
            server.other_files[commit] = {path.name: path.read_bytes() for path in folder.iterdir()}
        server.commits["main"], server.moves = FIRST, [SECOND]
        tuning(tmp_path, "org/model", adapter={"rank": 4})
        yield server


def asked(hub: HubServer, revision: str) -> int:
    """How often the hub was asked what a revision is."""
    return sum(seen.path.endswith(f"/revision/{revision}") for seen in hub.seen)


def assert_all_of_the_first(run: Path, folder: Path) -> None:
    first, second = (tilth.load(folder / commit) for commit in (FIRST, SECOND))
    assert read_base(run)["fingerprint"] == base_fingerprint(first.model) != base_fingerprint(second.model)
    ids = first.tokenizer.encode(TEXT)
    assert dataset_of(run).tokenizer.encode(TEXT) == ids != second.tokenizer.encode(TEXT)


def test_a_run_is_of_the_revision_that_it_began_with(hub: HubServer, cli: Cli, tmp_path: Path) -> None:
    cli("train", "r.yaml", "--json").json()
    assert asked(hub, "main") == 1 and hub.commits["main"] == SECOND
    assert_all_of_the_first(tmp_path / "runs" / "tuned", tmp_path)


def test_a_check_is_of_one_revision(hub: HubServer, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):  # the second finds what the first prepared
        hub.commits["main"], hub.moves = FIRST, [SECOND]
        hub.seen.clear()
        assert cli("check", "r.yaml").code == 0
        assert asked(hub, "main") == 1
    monkeypatch.chdir(tmp_path)
    hub.seen.clear()
    assert tilth.check(load_recipe(tmp_path / "r.yaml")).ok and asked(hub, "main") == 1


def test_all_processes_take_the_revision_that_process_0_found(hub: HubServer, tmp_path: Path) -> None:
    done = together("train", "r.yaml", "--json", cwd=tmp_path, sets=[])
    last_json(done)
    assert asked(hub, "main") == 1 and asked(hub, FIRST) == 1
    assert "not all processes" not in done.stderr, "none had to take the weights of process 0"
    assert_all_of_the_first(tmp_path / "runs" / "tuned", tmp_path)
