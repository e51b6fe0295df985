"""Reading what tilth wrote, and seeing that it is what was written.

    read_json(path)                 a value, or an error that says what is wrong with the file
    read_sealed(path)               a mapping that carries the hash of its own content
    read_manifest(folder)           sizes of a folder's files compared with its manifest
    verify_file, verify_manifest    their hashes too; `verify_once` only where a file may have changed since

Nothing here changes the disk; `files.py` writes what is read here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from tilth.core.disk import file_state, hash_file, safe_join, unreadable
from tilth.core.errors import IntegrityError

MANIFEST = "manifest.json"
_SEAL_BYTES = len('\n  "seal": ""\n}\n') + 64


def read_json(path: Path) -> Any:
    """The value of a JSON file that tilth wrote; IntegrityError when it is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing", "the folder is not whole: make it again") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "the folder is not whole: make it again") from None


def read_sealed(path: Path) -> dict[str, Any]:
    """A mapping that `write_sealed` wrote; IntegrityError when one byte of the file differs."""
    content = read_json(path)
    if not isinstance(content, dict) or not _seal_holds(path.read_bytes()):
        raise IntegrityError(f"{path} is not what was written", "it was altered: make it again")
    return content


def seal(content: dict[str, Any]) -> bytes:
    """A manifest's bytes, with the hash of its own content in it: a flipped byte of the manifest is noticed too."""
    content = {key: value for key, value in content.items() if key != "seal"}
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a path that is not UTF-8 has no encoding; as an escape it has
        text = json.dumps(content, indent=2).encode()
    begin = text.removesuffix(b"\n}") + b"," if content else b"{"
    return b'%s\n  "seal": "%s"\n}\n' % (begin, hashlib.sha256(text).hexdigest().encode())


def _seal_holds(data: bytes) -> bool:
    """Whether these are the bytes of `seal`: by the bytes, for to write a large mapping once more takes seconds."""
    match = re.fullmatch(rb'\n  "seal": "([0-9a-f]{64})"\n}\n', data[-_SEAL_BYTES:])
    begin = data[:-_SEAL_BYTES]
    if match is None or not begin.endswith((b",", b"{")):
        return False
    text = begin[:-1] + b"\n}" if begin.endswith(b",") else b"{}"
    return hashlib.sha256(text).hexdigest().encode() == match[1]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, with the sizes of its files checked; IntegrityError says what is wrong."""
    manifest = read_sealed(folder / MANIFEST)
    for name, entry in manifest.get("files", {}).items():
        path = _inside(folder, name)
        size = _file_size(path)
        if size != entry["size"]:
            found = "missing" if size is None else f"{size} bytes"
            raise IntegrityError(
                f"{path} is {found}; its manifest says {entry['size']} bytes",
                "it was truncated or altered: run the command that made it again",
            )
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """`safe_join` for names in a manifest, of which there may be many: no look at the disk."""
    if name.startswith("/") or ".." in name.split("/"):
        return safe_join(folder, name)
    return folder / name


def _file_size(path: Path) -> int | None:
    try:
        state = os.stat(path)  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def verify_file(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    """Compares a file with its hash in the manifest; IntegrityError when one bit differs."""
    try:
        found = hash_file(folder / name)
    except OSError as error:  # a failing disk; or it was removed since its size was checked
        raise unreadable(folder / name, error) from error
    if found != manifest["files"][name]["sha256"]:
        raise IntegrityError(
            f"{folder / name} is not what was written: its SHA-256 differs from its manifest's",
            f"it was altered: remove {folder} and run the command that made it again",
        )


_verified: dict[tuple[Path, str], tuple[int, ...]] = {}


def verify_once(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    """`verify_file`, but for a file that this process has verified and nothing has written to since."""
    place = folder / name, manifest["files"][name]["sha256"]
    state = file_state(place[0].stat())
    if _verified.get(place) != state:
        verify_file(folder, name, manifest)
        _verified[place] = state


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, after size and hash of every file were compared with it."""
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        verify_file(folder, name, manifest)
    return manifest
