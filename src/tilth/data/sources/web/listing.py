"""A source on the web as a listing: brought here first, then files like any other, and a verdict on every URL.

list_web(config, root, downloads) -> Listing
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tilth.core.files import read_manifest
from tilth.core.words import plural
from tilth.data.document import Verdict, make_doc_id
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.hashes import file_hash
from tilth.data.sources.inputs import Input, Listing, Lost
from tilth.data.sources.losses import judge
from tilth.data.sources.url import RefusedError
from tilth.data.sources.web.archive import FATES, read_fates
from tilth.data.sources.web.common_crawl import bring_files, bring_records
from tilth.data.sources.web.crawl import crawl
from tilth.data.sources.web.earlier import KEPT

_NAMED = 5  # sitemaps
_READ = ("sitemap", "empty_sitemap")
_NO_FAULT = ("redirected", "over_pages", "over_bytes")  # what it leads to says the rest; the crawl has what it may have
_REFUSED = "take out of `common_crawl.paths` what the server does not have, or raise `max_bad_rows:`"


def list_web(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The files of a `crawl` or `common_crawl` source, and what became of each URL (stage `fetch`).

    Raises:
        DataError: nothing came, or the network is gone.
        IntegrityError: what came earlier was altered.
    """
    if config.crawl is not None:
        return _from_folder(config, crawl(config.crawl, root, downloads))
    web = config.common_crawl
    assert web is not None
    if web.index is not None:
        return _from_folder(config, bring_records(web, root / Path(web.index).expanduser(), downloads))
    return _whole_files(config, bring_files(web, root, downloads))


def _whole_files(config: SourceConfig, found: Sequence[tuple[str, Path | RefusedError]]) -> Listing:
    """The files that came; the others are judged now too, before anything is read."""
    inputs, skipped, lost = list[Input](), list[Verdict](), list[Lost]()
    for name, file in found:
        if isinstance(file, Path):
            inputs.append(Input(config.source_name, "warc", file, name, file.stat().st_size, file_hash(file)))
            continue
        said, doc_id = f"{name}: the server answers {file.status} {file.reason}", make_doc_id(config.source_name, name)
        skipped.append(Verdict(doc_id, "fetch", "status", "dropped", str(file.status), said))
        lost.append(Lost(said, _REFUSED, name))
    judge(config, len(found), len(lost), lost[:3])
    return Listing(tuple(sorted(inputs, key=lambda item: item.locator)), tuple(skipped), lost=tuple(lost))


def _from_folder(config: SourceConfig, folder: Path) -> Listing:
    files = read_manifest(folder)["files"]
    inputs = [
        Input(config.source_name, "warc", folder / name, name, entry["size"], entry["sha256"], pages_once=True)
        for name, entry in sorted(files.items())
        if name != FATES and not name.startswith("other-")
    ]
    fates = list(read_fates(folder))
    skipped = tuple(_verdicts(config.source_name, fates))
    named = config.crawl.sitemaps if config.crawl else ()  # crawls of before do not say what is one
    return Listing(tuple(inputs), skipped, tuple(_of_sitemaps(config.source_name, fates, named)))


def _of_sitemaps(source: str, fates: Sequence[dict[str, Any]], named: Collection[str]) -> Iterator[str]:
    """What is wrong with sitemaps: whoever names one wants the pages that it lists."""
    said = [
        f"{source}: the sitemap {fate['url']}: {wrong}"
        for fate in fates
        if (fate.get("sitemap") or fate["url"] in named or fate["rule"] in _READ) and (wrong := _wrong_with(fate))
    ]
    yield from said[:_NAMED]
    if len(said) > _NAMED:
        yield f"{source}: and {plural(len(said) - _NAMED, 'more sitemap')} like that"


def _wrong_with(fate: dict[str, Any]) -> str:
    """Why a sitemap was not brought, or what is wrong with one that was; "" where nothing is."""
    rule, detail = fate["rule"], str(fate["detail"])
    if rule in _READ or rule in KEPT or rule in _NO_FAULT:
        return detail if rule in _READ else ""
    return ": ".join(filter(None, [f"{rule} {fate['value']}".rstrip(), detail]))


def _verdicts(source: str, fates: Iterable[dict[str, Any]]) -> Iterator[Verdict]:
    for fate in fates:
        verdict: Literal["kept", "dropped"] = "kept" if fate["rule"] in KEPT else "dropped"
        detail = f"{fate['url']}: {fate['detail']}" if fate["detail"] else fate["url"]
        doc_id = make_doc_id(source, fate["url"])
        yield Verdict(doc_id, "fetch", fate["rule"], verdict, fate["value"], detail)
