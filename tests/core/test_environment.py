"""Nothing is guessed: a device is known by its whole name, and a rate by the precision it is for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tilth.core.environment import cache_folder, peak_flops, total_memory_bytes

# From the data sheets of H100 and H200 (1,979 TFLOPS "with sparsity", of which half is dense), A100 and T4.
KNOWN = [
    ("NVIDIA H100 80GB HBM3", "bf16", 1979e12 / 2),
    ("NVIDIA H100 80GB HBM3", "fp16", 1979e12 / 2),
    ("NVIDIA H100 80GB HBM3", "fp32", 67e12),
    ("NVIDIA H200", "bf16", 1979e12 / 2),
    ("NVIDIA H100 PCIe", "bf16", 1513e12 / 2),
    ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
    ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
    ("Tesla T4", "fp16", 65e12),
]


@pytest.mark.parametrize(("name", "precision", "rate"), KNOWN)
def test_known_rates_are_those_of_the_data_sheets(name: str, precision: Any, rate: float) -> None:
    assert peak_flops(name, precision) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(
    "name",
    ["NVIDIA H100", "NVIDIA H100 NVL", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H200 NVL", "cpu", "mps", ""],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_other_device_is_taken_for_one_of_them(name: str, precision: Any) -> None:
    assert peak_flops(name, precision) is None


def test_a_precision_that_a_device_has_no_rate_for_is_unknown() -> None:
    assert peak_flops("Tesla T4", "bf16") is None
    assert peak_flops("NVIDIA H200", "auto") is None


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, "10000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_threads_sleep_soon_unless_told_otherwise(given: dict[str, str], then: str) -> None:
    """Said before torch is there, which reads it once."""
    code = (
        "import os, sys, tilth; tilth.TilthError; assert 'torch' not in sys.modules;"
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    )
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run([sys.executable, "-c", code], env={**environment, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == then, done.stderr


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be forgotten on Linux only")
def test_what_was_held_before_is_no_part_of_the_peak() -> None:
    script = """
from tilth.core.environment import forget_peak_memory, held_memory_bytes, peak_memory_bytes
much = bytearray(b"x" * (96 << 20))
del much
assert peak_memory_bytes() > held_memory_bytes() + (64 << 20)
forget_peak_memory()
assert peak_memory_bytes() < held_memory_bytes() + (8 << 20)
more = bytearray(b"x" * (48 << 20))
assert peak_memory_bytes() > (48 << 20)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


GIB = 1 << 30


@pytest.mark.parametrize(
    ("group", "files", "total"),
    [
        ("0::/", {}, 10),
        ("0::/", {"memory.max": 4 * GIB}, 6),
        ("0::/", {"memory.max": 4 * GIB, "memory.swap.max": 0}, 4),
        ("0::/", {"memory.max": "max"}, 10),
        ("0::/a/b", {"a/memory.max": 3 * GIB, "a/memory.swap.max": 0, "a/b/memory.max": "max"}, 3),
        ("0::/elsewhere", {"memory.max": 4 * GIB, "memory.swap.max": GIB}, 5),
        ("4:cpu,memory:/a\n1:cpu:/a", {"memory/a/memory.limit_in_bytes": 5 * GIB}, 7),
        ("4:memory:/", {"memory/memory.memsw.limit_in_bytes": 5 * GIB, "memory/memory.limit_in_bytes": 4 * GIB}, 5),
        ("4:memory:/", {"memory/memory.limit_in_bytes": 9223372036854771712}, 10),
        ("4:cpu:/", {"memory.max": GIB}, 10),
    ],
)
def test_memory_is_what_the_container_may_have(
    tmp_path: Path, group: str, files: dict[str, int | str], total: int
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nSwapTotal: {2 << 20} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(group + "\n")
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    assert total_memory_bytes(tmp_path) == total * GIB


def without_account() -> NoReturn:
    raise RuntimeError("Could not determine home directory.")


def test_there_is_a_cache_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "new"))
    assert cache_folder() == tmp_path / "new" / ".cache" / "tilth" and not any(tmp_path.iterdir())
    own = tmp_path / f"tilth-{os.getuid()}"
    (tmp_path / "file").write_text("")
    for home in ("/dev/null", str(tmp_path / "file" / "x")):
        monkeypatch.setenv("HOME", home)
        assert cache_folder() == own and own.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(Path, "home", without_account)
    (own / "kept").write_text("")
    assert (cache_folder() / "kept").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/named")
    assert cache_folder() == Path("/dev/null/named/tilth"), "what was named is not passed over"


@pytest.mark.parametrize("others", ["writable", "link", "file", "missing"])
def test_a_folder_of_others_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str) -> None:
    """Compiled code is loaded from there."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", without_account)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if others != "missing" else tmp_path / "gone"))
    own, elsewhere = tmp_path / f"tilth-{os.getuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if others == "writable":
        own.mkdir()
        own.chmod(0o777)
    elif others == "link":
        own.symlink_to(elsewhere)
    elif others == "file":
        own.write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        cache_folder().mkdir(parents=True, exist_ok=True)
