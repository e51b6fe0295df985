"""A polite crawl that survives a kill at any moment, and can say of every URL what became of it.

    crawl(config, root, folder) -> Path      the finished crawl: pages-*.warc.gz, other-*.warc.gz, fates.jsonl

The loop takes the next URL, and the result of asking for it from the journal of an earlier attempt or, where that one
ended, from the network; both go the same way from there. So the same pages come in the same order, however often it is
interrupted, and only what was under way when it was killed is asked for again.

While it goes on, `<crawl>.work` holds the records as they came and the journal. At the end the records are copied in
the order of URLs into a folder that appears whole. A crawl that is there is never made again, and needs no network.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.core.errors import DataError
from tilth.core.files import FolderLock, disk, new_folder, remove_leftovers, storage_errors
from tilth.core.progress import Meter
from tilth.data.sources.hashes import verify_folder
from tilth.data.sources.web.archive import Archive, Place, answer_records, now, write_fates, write_segments
from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.courier import REDIRECTS, Courier, Robots
from tilth.data.sources.web.earlier import KEPT, Earlier
from tilth.data.sources.web.exchange import Answer, Fault
from tilth.data.sources.web.frontier import Entry, Fate, Frontier, Kind
from tilth.data.sources.web.http_message import TooLargeError, content_type, decompressed, parse_response
from tilth.data.sources.web.journal import Journal, damaged
from tilth.data.sources.web.links import MOST_LINKS, page_links
from tilth.data.sources.web.remedies import remedy_of
from tilth.data.sources.web.sitemaps import read_sitemap
from tilth.data.sources.web.urls import host_of, normalize, origin_of
from tilth.data.sources.web.warc import make_record

VERSION = 1
LOST_AFTER = 5
"""Pages in a row that cannot be reached on hosts that answered before: then it is asked whether the network is gone."""
_ASKED = 3  # hosts that had their turn, and hosts that wait for it, which are asked then
_POLITENESS = {"delay", "timeout", "deadline", "contact"}  # they change when a page comes, not which
_HTML = ("text/html", "application/xhtml+xml")
_SITEMAP_BYTES = 50 << 20


def crawl(config: CrawlConfig, root: Path, folder: Path) -> Path:
    """Makes a crawl, or goes on with it, or finds it done.

    Args:
        root: the folder from which a relative path of `urls` starts.
        folder: where crawls lie.

    Raises:
        DataError: no page could be fetched, or the network is gone; the same command goes on.
    """
    singles = list(config.urls) if not isinstance(config.urls, str) else _listed(root / Path(config.urls).expanduser())
    final = folder / _name(config, singles, config.recrawl)
    work = folder / f"{final.name}.work"
    with FolderLock(folder, "the download folder"), storage_errors(final):
        remove_leftovers(folder, r"crawl-[0-9a-f]{16}-\d+")
        if not final.exists():
            before = [folder / _name(config, singles, number) for number in range(config.recrawl - 1, -1, -1)]
            earlier = next((path for path in before if path.exists()), None)
            disk.make_folder(work)
            # Where no link is followed, what is listed is all there is.
            total = 0 if config.start or config.sitemaps else min(len(singles), config.max_pages)
            with progress.measured("crawling", config.title, "page", total) as meter:
                _Crawl(config, singles, work, earlier, meter).run(final)
        disk.remove(work)
    verify_folder(final)
    return final


def _name(config: CrawlConfig, singles: list[str], recrawl: int) -> str:
    identity = config.model_dump(mode="json", exclude=_POLITENESS | {"recrawl", "urls"})
    return f"crawl-{fingerprint([VERSION, identity, singles])[:16]}-{recrawl}"


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list of addresses {path}: {error}", "give a readable UTF-8 file") from error
    urls = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        url = normalize(line)
        if url is None:
            raise DataError(f"{path}:{number}: {line.strip()!r} is no http or https address", "mend or remove the line")
        urls.append(url)
    if not urls:
        raise DataError(f"{path} lists no address", "write one http or https address a line")
    return list(dict.fromkeys(urls))


class _Crawl:
    """One crawl under way."""

    def __init__(self, config: CrawlConfig, singles: list[str], work: Path, earlier: Path | None, meter: Meter) -> None:
        self._config, self._work, self._meter = config, work, meter
        self._journal, self._archive = Journal(work / "journal.jsonl"), Archive(work / "records.warc.gz")
        self._frontier = Frontier(config, singles)
        self._courier = Courier(config, self._frontier.waiting(), meter)  # which are those of the recipe yet
        self._earlier = Earlier(earlier) if earlier else None
        self._robots: dict[str, Robots] = {}
        self._robots_texts: list[dict[str, Any]] = []
        self._fates: list[Fate] = []
        self._kept: dict[str, dict[str, Any]] = {}  # the events of pages
        self._others: list[tuple[str, Place]] = []
        self._bytes = 0
        self._answered: set[str] = set()
        self._lost: list[str] = []

    def run(self, final: Path) -> None:
        """Goes on until no URL is left, then writes what came."""
        while (entry := self._frontier.next()) is not None:
            refused = self._gate(entry)
            if refused is not None:
                self._fates.append(refused)
            else:
                before = self._recalled("url", entry.url)
                self._apply(entry, before or self._bring(entry))
                (self._meter.had if before else self._meter.add)(1)
        fates = [*self._fates, *self._frontier.fates]
        if not self._kept:
            disk.remove(self._work)
            shown = "; ".join(fate.words for fate in fates[:3])
            remedy = remedy_of(self._config, fates, self._earlier.number if self._earlier else None)
            raise DataError(f"the crawl of {self._config.title} brought no page: {shown}", remedy)
        self._journal.flush()
        self._finish(final, fates)

    def _recalled(self, key: str, value: str) -> dict[str, Any] | None:
        event = self._journal.next()
        if event is not None and event.get(key) != value:
            raise damaged(self._journal.path, f"it goes on with {event.get('url') or event.get('robots')}, not {value}")
        return event

    def _gate(self, entry: Entry) -> Fate | None:
        """Why a URL is not asked for, as far as that can be said without asking."""
        config = self._config
        if len(self._kept) >= config.max_pages:
            return entry.fate("over_pages", str(config.max_pages), "the crawl has its pages")
        if self._bytes >= config.max_bytes:
            return entry.fate("over_bytes", str(config.max_bytes), "the crawl has its bytes")
        fault = self._robots_of(entry.url).refuses(entry.url)
        return entry.fate(fault.rule, fault.value, fault.detail) if fault else None

    def _robots_of(self, url: str) -> Robots:
        origin = origin_of(url)
        if origin not in self._robots:
            event = self._recalled("robots", origin)
            if event is None:
                event = {**self._courier.robots(origin), "date": now()}
                (self._journal.hold if event["state"] == "unknown" else self._journal.append)(event)
            self._courier.touched(url)
            self._robots[origin] = Robots(event)
            self._courier.learn(origin, self._robots[origin])
            self._robots_texts += [event] if event["state"] == "there" else []
        return self._robots[origin]

    def _bring(self, entry: Entry) -> dict[str, Any]:
        """Asks for a URL, keeps the records, and notes the result in the journal."""
        event: dict[str, Any] = {"url": entry.url}
        validators = self._earlier.validators(entry.url) if self._earlier else {}
        try:
            answer = self._courier.page(entry, validators)
        except Fault as fault:
            event |= {"rule": fault.rule, "value": fault.value, "detail": fault.detail}
            if fault.rule == "unreachable" and host_of(entry.url) in self._answered:
                self._lost.append(entry.url)
                if len(self._lost) < LOST_AFTER:
                    self._journal.hold(event)
                    return event
                self._look_for_the_network(fault)
        else:
            records, judged = self._judged(entry, answer)
            place = self._archive.append(records)
            self._meter.size += len(answer.body)
            event |= {**judged, "at": place.at, "size": place.size, "bytes": len(answer.body)}
            if slow := self._frontier.slow_ones([*event.get("found", ()), *filter(None, [event.get("target")])]):
                event["slow"] = slow
        self._lost.clear()
        self._journal.append(event)
        return event

    def _look_for_the_network(self, fault: Fault) -> None:
        """Where any host answers, be it the one of the lost pages, they are lost for reasons of their own.

        Raises:
            DataError: none does.
        """
        had = [origin for origin in self._robots if host_of(origin) in self._answered]
        to_come = itertools.islice(dict.fromkeys(map(origin_of, self._frontier.waiting())), _ASKED)
        origins = dict.fromkeys([*map(origin_of, self._lost), *had[-_ASKED:], *to_come])
        if any(map(self._courier.answers, origins)):
            return
        hosts = {host_of(origin) for origin in origins}
        gone, other = "the network is gone", "; no other host answers"
        if len(hosts) == 1:  # who can tell
            gone, other = f"{hosts.pop()}, or the network, is gone", ""
        raise DataError(
            f"{gone}: {LOST_AFTER} pages in a row cannot be reached, the last {self._lost[-1]}: {fault.detail}{other}",
            "type the same command when it is back: the crawl goes on with these pages",
        )

    def _judged(self, entry: Entry, answer: Answer) -> tuple[bytes, dict[str, Any]]:
        """The records of an answer, and what it means."""
        if answer.status == 304 and self._earlier and (old := self._earlier.response(entry.url)):
            refers_to = {
                "WARC-Refers-To": old.headers["warc-record-id"],
                "WARC-Refers-To-Target-URI": entry.url,
                "WARC-Refers-To-Date": old.headers["warc-date"],
            }
            # The response itself follows, so that this crawl can be read without the one before.
            records = answer_records(entry.url, entry.level, answer, refers_to) + self._earlier.member(entry.url, old)
            then = parse_response(old.block)
            again = Answer(200, "", then.headers, then.body, b"", "")
            return records, {**self._read(entry, again), "rule": "not_modified", "value": "304"}
        records = answer_records(entry.url, entry.level, answer)
        if answer.status in REDIRECTS:
            target = normalize(answer.header("location"), entry.url)
            if target is None:
                return records, {"rule": "bad_redirect", "value": answer.header("location")[:200]}
            return records, {"rule": "redirected", "value": str(answer.status), "target": target}
        if answer.status != 200:
            return records, {"rule": "status", "value": str(answer.status), "detail": answer.reason[:200]}
        return records, self._read(entry, answer)

    def _read(self, entry: Entry, answer: Answer) -> dict[str, Any]:
        """What a page or sitemap holds: its rule, and the links that are new."""
        limit = _SITEMAP_BYTES if entry.kind == "sitemap" else self._config.max_page_bytes
        try:
            raw = decompressed(answer.body, answer.header("content-encoding"), limit)
            if entry.kind == "sitemap":
                return self._sitemap(decompressed(raw, "gzip", limit))
        except TooLargeError:
            return {"rule": "too_large", "value": str(limit), "detail": f"more than {limit} bytes when decompressed"}
        except ValueError as error:
            return {"rule": "bad_encoding", "detail": str(error)}
        kind, charset = content_type(answer.header("content-type"))
        links = page_links(raw, entry.url, charset) if kind in _HTML and entry.kind == "page" else []
        event: dict[str, Any] = {"rule": "fetched", "value": "200", "etag": answer.header("etag")}
        event |= {"modified": answer.header("last-modified"), "found": self._new(links[:MOST_LINKS])}
        if len(links) > MOST_LINKS:
            event["detail"] = f"it has more than {MOST_LINKS} links; the rest was not followed"
        return event

    def _sitemap(self, raw: bytes) -> dict[str, Any]:
        found = read_sitemap(raw)
        event = {"rule": found.rule, "value": str(len(found.pages)), "detail": found.fault}
        return {**event, "found": self._new(found.pages), "sitemaps": self._new(found.sitemaps)}

    def _new(self, urls: list[str]) -> list[str]:
        return [url for url in urls if not self._frontier.knows(url)]

    def _apply(self, entry: Entry, event: dict[str, Any]) -> None:
        """What a result changes; the same for one that just came and for one of an earlier attempt."""
        self._courier.touched(entry.url)
        self._frontier.slow.update(event.get("slow", ()))
        rule = event["rule"]
        if "size" in event:
            self._answered.add(host_of(entry.url))
            self._archive.end = event["at"] + event["size"]
            self._bytes += event["bytes"]
            if rule in KEPT:
                self._kept[entry.url] = {key: event.get(key, "") for key in ("at", "size", "etag", "modified")}
            else:
                self._others.append((entry.url, Place(event["at"], event["size"])))
        fate = entry.fate(rule, event.get("value", ""), event.get("detail", ""))
        if "target" in event:
            fate = self._frontier.redirect(entry, event["target"]) or entry.fate(
                rule, event["value"], f"to {event['target']}"
            )
        self._fates.append(fate)
        listed: Kind = "page" if entry.kind == "page" or self._config.start else "single"
        for url in event.get("sitemaps", ()):
            self._frontier.add(entry, url, "sitemap")
        for url in event.get("found", ()):
            self._frontier.add(entry, url, listed)

    def _finish(self, final: Path, fates: list[Fate]) -> None:
        self._archive.cut()
        counts = Counter(fate.rule for fate in fates)
        with new_folder(final, {"kind": "crawl", "fates": dict(sorted(counts.items()))}) as folder:
            pages = [(url, Place(event["at"], event["size"])) for url, event in sorted(self._kept.items())]
            places = write_segments(folder, "pages", self._archive, pages, self._config.contact)
            others = [*self._others, *self._robots_records()]
            write_segments(
                folder, "other", self._archive, sorted(others, key=lambda item: item[0]), self._config.contact
            )
            more = {
                url: {**event, "file": places[url][0], "at": places[url][1]}
                for url, event in sorted(self._kept.items())
            }
            write_fates(folder, fates, more)

    def _robots_records(self) -> Iterator[tuple[str, Place]]:
        for event in self._robots_texts:
            url = f"{event['robots']}/robots.txt"
            block = event["text"].encode("utf-8", "surrogatepass")
            yield url, self._archive.append(make_record("resource", url, event["date"], block, "text/plain")[1])
