"""The files of a path or an address: sorted, hashed, and with a word on each that is left out.

    list_path(config, root, downloads) -> Listing
        a file       that file
        a folder     every known suffix under it; hidden files, links that lead out of it, other suffixes: skipped
        a glob       what it matches, without such links; `**` goes through folders: see matching.py
    list_url(config, root, downloads) -> Listing
                     the file, downloaded into `downloads` and compared with its SHA-256

Of paths goes what `exclude:` names: see excluding.py.

What is skipped comes back as verdicts of the stage `list`, so that the ledger can answer "why is this file not in?".
What tilth itself wrote below a folder is among it: see own.py.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit

from tilth.core.errors import DataError
from tilth.core.yaml_texts import in_brackets
from tilth.data.document import Verdict, in_utf8, make_doc_id
from tilth.data.extract import require
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.excluding import RULE as EXCLUDED
from tilth.data.sources.excluding import Excluding, note_of
from tilth.data.sources.hashes import file_hash, hash_large
from tilth.data.sources.inputs import ARCHIVES, KNOWN_SUFFIXES, Input, Kind, Listing, kind_of
from tilth.data.sources.matching import GLOB_CHARACTERS, LEAVES_FOLDER, LINKED_FOLDER, leads_out, matching
from tilth.data.sources.own import RULE as OWN_FILES
from tilth.data.sources.own import OwnFiles

PATTERN_OF_TEXT = '{path: "d/*.srt", format: text}'


def list_path(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """What lies at a path.

    Raises:
        DataError: nothing is there, nothing can be read, or no suffix is known.
    """
    assert config.path is not None
    path = root / Path(config.path).expanduser()
    mode = _mode(config, path)
    if stat.S_ISDIR(mode):
        return _from_folder(config, path, OwnFiles(path, downloads.parent))
    if mode and not stat.S_ISREG(mode):
        raise DataError(
            f"source {config.source_name}: {path} is a pipe, a socket or a device",
            "a source is read more than once: save it to a file, and name that",
        )
    if mode:
        return _one_file(config, _input(config, path, config.path_prefix or path.name, explicit=True))
    if GLOB_CHARACTERS & set(config.path):
        return _from_glob(config, root, Path(config.path).expanduser(), downloads.parent)
    raise DataError(
        f"source {config.source_name}: there is nothing at {path}",
        f"check `path: {config.path}`; relative paths start from {root.absolute()}",
    )


def _mode(config: SourceConfig, path: Path) -> int:
    """What is at a path; 0 where nothing is."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if isinstance(error, PermissionError) and not GLOB_CHARACTERS & set(config.path or ""):
            raise _closed(config, path, error) from error
        return 0


def list_url(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The file at an address.

    Raises:
        DataError: its suffix is not known, or the download is not what it should be.
    """
    del root
    assert config.url is not None
    if config.format == "auto" and kind_of(urlsplit(config.url).path) is None:
        raise _unknown_suffix(config, config.url)  # before a byte is downloaded
    from tilth.data.sources.url import fetch

    path = fetch(config.url, config.sha256 or "", downloads)
    return _one_file(config, _input(config, path, config.url, explicit=True))


def _one_file(config: SourceConfig, item: Input) -> Listing:
    """A file that is the source. An archive may hold what `exclude:` names."""
    if item.kind in ARCHIVES:
        return Listing((item,), unused=tuple(config.exclude))
    patterns = ", ".join(map(in_brackets, config.exclude))
    said = f"{config.source_name}: `exclude: [{patterns}]` leaves nothing out: the source is one file; take it out"
    more = ", or give the file's folder as `path:`" if config.path else ""
    return Listing((item,), notes=(said + more,) if patterns else ())


def _from_folder(config: SourceConfig, folder: Path, own: OwnFiles) -> Listing:
    skipped: list[Verdict] = []
    prefix, out = config.path_prefix, Excluding(config.exclude, folder)

    def skip(path: Path, rule: str, detail: str) -> None:
        skipped.append(_skip(config, _locator(prefix, path, folder), rule, detail))

    def refuse(error: OSError) -> NoReturn:
        raise _unreadable(config, Path(error.filename), folder, error) from error

    place = {path: _locator(prefix, path, folder) for path in _walk(folder, own, out, skip, refuse)}
    taken = []
    for path in sorted(place, key=lambda path: place[path]):
        kind = kind_of(path.name)
        if kind is None and config.format == "auto":
            skip(path, "unknown_suffix", f"its suffix is {path.suffix or 'missing'}")
        elif config.format not in ("auto", kind) and kind is not None and kind not in ARCHIVES:
            skip(path, "other_format", f"the recipe asks for {config.format}")
        else:
            taken.append(path)
    if not taken:
        raise _nothing_in(config, f"the folder {folder} holds no file that can be read", skipped)
    return _listing(config, _inputs(config, taken, place, folder), out, skipped, prefix)


def _listing(
    config: SourceConfig, inputs: tuple[Input, ...], out: Excluding, skipped: Iterable[Verdict] = (), prefix: str = ""
) -> Listing:
    """What was found, with a word on patterns that name nothing: here, or when the archives among it were read.

    Args:
        prefix: what locators begin with: the source's folder.
    """
    told = tuple(sorted(skipped, key=lambda verdict: verdict.detail))
    if any(item.kind in ARCHIVES for item in inputs):
        return Listing(inputs, told, unused=out.unused)
    places = (item.locator.removeprefix(f"{prefix}/") for item in inputs)
    return Listing(inputs, told, note_of(config.source_name, out.unused, prefix, places))


def _walk(
    folder: Path,
    own: OwnFiles,
    out: Excluding,
    skip: Callable[[Path, str, str], None],
    refuse: Callable[[OSError], NoReturn],
) -> Iterator[Path]:
    """The regular files under a folder, in no promised order; what is passed over goes to `skip`, and a folder that
    cannot be read to `refuse`.
    """
    root, ours = folder.resolve(), dict[Path, str]()
    for place, names, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        for path in [here / name for name in names]:
            linked = _is_link(path)  # it can lead out, or round in a ring
            if belongs := None if linked else own.of_folder(path):
                ours |= [belongs]
                out.passed(path)
            elif linked or path.name.startswith("."):
                skip(path, *(LINKED_FOLDER if linked else ("hidden", "a hidden folder")))
                out.passed(path)
            elif pattern := out.by(path):
                skip(path, EXCLUDED, f"a folder that `exclude: {pattern}` names")
            else:
                continue
            names.remove(path.name)
        for path in [here / name for name in files]:
            pattern = out.by(path)
            if belongs := own.of_file(path):
                ours |= [belongs]
            elif passed := _passed_over(path, root):
                skip(path, *passed)
            elif pattern:
                skip(path, EXCLUDED, f"`exclude: {pattern}` names it")
            else:
                yield path
    for path, what in ours.items():
        skip(path, OWN_FILES, what)


def _passed_over(path: Path, root: Path) -> tuple[str, str] | None:
    """Rule and reason for a file of a folder that is not read, whatever its suffix."""
    return ("hidden", "a hidden file") if path.name.startswith(".") else _astray(path, root)


def _astray(path: Path, root: Path) -> tuple[str, str] | None:
    linked = _is_link(path)
    if linked and leads_out(path, root):
        return LEAVES_FOLDER
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:  # of a file in a folder that must not be gone into it is told when it is read
        is_file = isinstance(error, PermissionError) and not linked
    return None if is_file else ("no_file", "a broken link, a socket or a device")


# Not the methods of a path: of what lies in a folder that must not be gone into, Python 3.11's raise.
def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _from_glob(config: SourceConfig, root: Path, pattern: Path, workspace: Path) -> Listing:
    fixed = _fixed_part(pattern)
    start = root / fixed
    own, real = OwnFiles(start, workspace), start.resolve()
    found = matching(start, pattern.parts[len(fixed.parts) :])
    prefix = config.path_prefix and _fixed_part(Path(config.path_prefix)).as_posix()
    place = {path: _locator(prefix, path, start) for path in (*found.visible, *found.passed)}
    taken, skipped, ours, gone = [], [], dict[Path, str](), dict[Path, str]()
    out = Excluding(config.exclude, start)
    for path, (visible, error) in found.refused.items():
        if belongs := own.of_folder(path):
            ours |= [belongs]
        elif not visible:
            skipped.append(_skip(config, _locator(prefix, path, start), "hidden", "a hidden folder, or in one"))
        elif out.by(path):
            top = out.topmost(path)
            gone[top] = f"a folder that `exclude: {out.by(top)}` names"
        else:
            raise _unreadable(config, path, start, error) from error
    for path, why in found.passed.items():
        out.passed(path)
        if belongs := own.of_file(path):
            ours |= [belongs]
        else:
            skipped.append(_skip(config, place[path], *why))
    for path in sorted((path for path in found.visible if not _is_folder(path)), key=lambda path: place[path]):
        named = out.by(path)
        if belongs := own.of_file(path):
            ours |= [belongs]
        elif not found.visible[path]:
            skipped.append(_skip(config, place[path], "hidden", "a hidden file, or in a hidden folder"))
        elif named and (top := out.topmost(path)) != path:
            gone[top] = f"a folder that `exclude: {out.by(top)}` names"
        elif named:
            skipped.append(_skip(config, place[path], EXCLUDED, f"`exclude: {named}` names it"))
        elif astray := _astray(path, real):
            skipped.append(_skip(config, place[path], *astray))
        elif config.format == "auto" and kind_of(path.name) is None:
            skipped.append(_skip(config, place[path], "unknown_suffix", f"its suffix is {path.suffix or 'missing'}"))
        else:
            taken.append(path)
    for rule, folders in ((OWN_FILES, ours), (EXCLUDED, gone)):
        skipped += [_skip(config, _locator(prefix, path, start), rule, what) for path, what in folders.items()]
    if not taken:
        raise _nothing_in(config, f"the glob {root / pattern} matches no file that can be read", skipped)
    return _listing(config, _inputs(config, taken, place, start), out, skipped, prefix)


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before its first wildcard."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(parts) - 1)
    return Path(*parts[:wild])


def _locator(prefix: str, path: Path, folder: Path) -> str:
    return _posix(PurePosixPath(prefix, path.relative_to(folder).as_posix()))


def _posix(path: PurePosixPath) -> str:
    return in_utf8(path.as_posix())


def _inputs(config: SourceConfig, paths: list[Path], place: Mapping[Path, str], folder: Path) -> tuple[Input, ...]:
    hashes = hash_large(paths)
    found = (_input(config, path, place[path], explicit=False, known=hashes.get(path)) for path in paths)
    return tuple(
        replace(item, within=item.path.relative_to(folder).as_posix()) if item.kind in ARCHIVES else item
        for item in found
    )


def _input(config: SourceConfig, path: Path, locator: str, *, explicit: bool, known: str | None = None) -> Input:
    """The file as an `Input`; a file named one by one must have a known suffix, or a `format:`."""
    kind: Kind | None = kind_of(path.name)
    if config.format != "auto" and kind not in ARCHIVES:
        kind = config.format
    if kind is None:
        assert explicit  # folders and globs have passed over unknown suffixes before
        raise _unknown_suffix(config, str(path))
    if explicit and kind not in ARCHIVES and (idle := config.idle_keys(kind)):  # in a folder they are for other files
        raise DataError(
            f"source {config.source_name}: {' and '.join(f'`{key}:`' for key in idle)} would do nothing: "
            f"{path} is read as {kind}",
            f"leave {'it' if len(idle) == 1 else 'them'} out, or write the `format:` that the file has",
        )
    require(kind)  # now, and not when the first such file is read
    try:
        return Input(config.source_name, kind, path, locator, path.stat().st_size, known or file_hash(path))
    except OSError as error:
        raise _closed(config, path, error) from error


def _closed(config: SourceConfig, path: Path, error: OSError) -> DataError:
    return DataError(
        f"source {config.source_name}: cannot read {path}: {error.strerror}",
        "give yourself the right to read it, or take it out of the source",
    )


def _unreadable(config: SourceConfig, path: Path, folder: Path, error: OSError) -> DataError:
    """Of a folder that cannot be read: texts that are to be read, or looked for, may lie there.

    Args:
        folder: that of the source, which patterns of `exclude:` begin in.
    """
    mended = "give yourself the right to read it" if isinstance(error, PermissionError) else "look after the disk"
    pattern = in_brackets(glob.escape(path.relative_to(folder).as_posix()))
    remedy = mended if path == folder else f"{mended}, or leave it out by the source's `exclude: [{pattern}]`"
    return DataError(f"source {config.source_name}: cannot read the folder {path}: {error.strerror}", remedy)


def _skip(config: SourceConfig, locator: str, rule: str, detail: str) -> Verdict:
    return Verdict(make_doc_id(config.source_name, locator), "list", rule, "dropped", detail=f"{locator}: {detail}")


def _unknown_suffix(config: SourceConfig, name: str) -> DataError:
    return DataError(
        f"source {config.source_name}: the suffix of {name} is not known",
        "write `format:` (text, markdown, code, jsonl, csv, json, parquet, arrow, html, pdf, warc), or use a known "
        f"suffix: {KNOWN_SUFFIXES}",
    )


def _nothing_in(config: SourceConfig, what: str, skipped: Iterable[Verdict]) -> DataError:
    passed = [verdict.detail for verdict in skipped]
    shown = f"; passed over: {'; '.join(passed[:3])}{f' and {len(passed) - 3} more' if len(passed) > 3 else ''}"
    return DataError(
        f"source {config.source_name}: {what}{shown if passed else ''}",
        f"check `path: {config.path}`; the suffixes that are known: {KNOWN_SUFFIXES}; text in files with "
        f"another one is read by a pattern: {PATTERN_OF_TEXT}",
    )
