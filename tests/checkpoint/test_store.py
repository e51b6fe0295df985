"""Checkpoints against a disk that fails or a process that dies at every operation, and against every changed byte."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.helpers import hashes
from tests.training.helpers import equal, make_trainer, weights
from tilth.checkpoint.store import CheckpointStore
from tilth.checkpoint.tensors import load_model, read_tensors, write_tensors
from tilth.core import files
from tilth.core.errors import CheckpointError

OPERATIONS = ("write", "make_folder", "rename", "replace", "sync_file", "sync_files", "sync_folder", "remove")


class Shim:
    """A disk that does something instead of its k-th operation; what happens is `act`."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.left, self.act, self.real = at, act, files.Disk()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.real, name)
        if name not in OPERATIONS:
            return operation

        def counted(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.act()
            return operation(*arguments, **options)

        return counted


def use(shim: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("core.files", "checkpoint.tensors", "checkpoint.store"):
        monkeypatch.setattr(f"tilth.{module}.disk", shim)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def save_in_a_child_that_dies(folder: Path, operation: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Saves step 6 of a run in a forked process that exits at the operation; False when it had fewer operations."""
    trainer = make_trainer(folder)
    trainer.restore(trainer.parts.store.at(5))
    trainer._step()
    trainer.parts.loader.close()
    files.disk.remove(trainer.parts.store._path(6))
    trainer._saved_step = 5
    child = os.fork()
    if child == 0:
        use(Shim(operation, lambda: os._exit(9)), monkeypatch)
        trainer._save()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.slow
def test_a_save_that_dies_at_any_operation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_trainer(tmp_path)
    whole.run()
    for step in range(6, 11):
        files.disk.remove(whole.parts.store._path(step))
    seen, gone_on_from = set(), list[dict[str, str]]()
    for operation in range(1, 100):
        died = save_in_a_child_that_dies(tmp_path, operation, monkeypatch)
        store = CheckpointStore(tmp_path / "checkpoints")
        latest, set_aside = store.latest()
        assert latest is not None and latest.step in (5, 6) and not set_aside, f"operation {operation}"
        seen.add(latest.step)
        if (bytes_of_it := hashes(store._path(latest.step))) not in gone_on_from:  # the same bytes go on the same way
            gone_on_from.append(bytes_of_it)
            trainer = make_trainer(tmp_path)
            trainer.restore(latest)
            trainer.run()
            assert equal(weights(trainer), weights(whole)), f"operation {operation}"
        for step in range(6, 11):
            files.disk.remove(store._path(step))
        if not died:
            break
    assert operation > 15 and seen == {5, 6}, "every operation was met, before and after the rename"
    assert not list((tmp_path / "checkpoints").glob(".step*")), "what the killed ones left was cleared away"


def test_a_full_disk_at_any_operation_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    tensors = {"model": {"w": torch.arange(5.0)}}
    store.save(1, tensors, {"a": 1})
    for operation in range(1, 100):
        shim = Shim(operation, full_disk)
        with monkeypatch.context() as patch:
            use(shim, patch)
            try:
                store.save(2, tensors, {"a": 2})
            except CheckpointError as error:
                assert "could not save step 2" in str(error) and "the disk is full" in str(error)
                assert error.exit_code == 4
        latest, set_aside = store.latest()
        assert latest is not None and not set_aside
        if shim.left > 0:
            break
        files.disk.remove(tmp_path / "step-00000002")
    assert operation > 8 and latest.step == 2


def test_every_flipped_byte_is_noticed_and_set_aside_by_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save(step, {"model": {"w": torch.arange(4.0)}, "optimizer": {"w|m": torch.ones(2)}}, {"step": step})
    folder, number = tmp_path / "step-00000002", 0
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            latest, messages = store.latest()
            assert latest is not None and latest.step == 1, f"{path.name} byte {place}"
            aside = folder.with_name("step-00000002.damaged")
            assert len(messages) == 1 and aside.name in messages[0]
            aside.rename(folder)
            number += 1
        path.write_bytes(whole)
    latest, messages = store.latest()
    assert latest is not None and latest.step == 2 and not messages and number > 400


def test_missing_and_truncated_files_are_noticed_and_none_is_deleted(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3):
        store.save(step, {"model": {"w": torch.arange(4.0)}}, {})
    (tmp_path / "step-00000003" / "state.json").unlink()
    model = tmp_path / "step-00000002" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    latest, messages = store.latest()
    assert latest is not None and latest.step == 1
    assert "state.json is missing" in messages[0] and "its manifest says" in messages[1]
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".damaged") == [
        "step-00000002.damaged",
        "step-00000003.damaged",
    ]
    with pytest.raises(CheckpointError, match="no checkpoint of step 3") as caught:
        store.at(3)
    assert "choose one that exists: 1" in str(caught.value)


def test_what_another_process_verified_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, elsewhere = (CheckpointStore(tmp_path / name) for name in ("one", "other"))
    for value, place in ((0.0, store), (1.0, elsewhere)):
        place.save(3, {"model": {"w": torch.full((4,), value)}}, {})
    told = store.at(3).manifest
    with monkeypatch.context() as patch:
        patch.setattr("tilth.core.verify.hash_file", lambda path: pytest.fail(f"{path} is read whole"))
        assert store.same(3, told).tensors("model")["w"].tolist() == [0] * 4
    with pytest.raises(CheckpointError, match="not the checkpoint that process 0") as caught:
        elsewhere.same(3, told)
    assert "see the same run folder" in caught.value.remedy
    model = tmp_path / "one" / "step-00000003" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="its manifest says"):
        store.same(3, told)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        store.same(4, told)


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(1, 6):
        store.save(step, {"model": {"w": torch.zeros(1)}}, {})
        if step == 2:
            store.mark_best(2, "loss", 1.5)
        store.prune(keep=2)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000002", "step-00000004", "step-00000005"]
    best = store.best()
    assert best is not None and best.step == 2


def test_files_are_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.arange(7, dtype=torch.uint8),
        "c": torch.randn(2, 2).bfloat16(),
        "d": torch.tensor(3.5, dtype=torch.float64),
        "e": torch.empty(0, 4),
        "f": torch.randn(4, 6).T,
        "g": torch.tensor([True, False]),
        "h": torch.arange(3),
    }
    write_tensors(tmp_path / "x.safetensors", tensors)
    for read in (load_file(tmp_path / "x.safetensors"), read_tensors(tmp_path / "x.safetensors")):
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[n], t) and read[n].dtype == t.dtype for n, t in tensors.items())


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    bad = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        load_model(model, bad, tmp_path)
    for words in ("bias is missing", "extra is unknown", "weight is [2, 4], not [2, 3]"):
        assert words in str(caught.value)


def test_where_none_verifies_that_is_an_error_and_all_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        folder = store.save(step, {"model": {"w": torch.arange(4.0)}}, {})
        (folder / "state.json").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* verifies: .*step-00000002.*; .*step-00000001"):
            store.latest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
