"""Brings one page: waits its turn, asks, asks again where that may help, and knows each host's robots.txt.

    courier = Courier(config, named, meter)
    courier.robots(origin) -> dict          what the host's robots.txt says, as an event for the journal
    courier.answers(origin) -> bool         whether the host says anything at all now
    courier.page(entry, validators) -> Answer | Fault

RFC 9309: a robots.txt that is not there allows everything, one that cannot be had forbids everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tilth.core.errors import RecipeError
from tilth.core.progress import Meter
from tilth.data.sources.retry import retry_after
from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.exchange import Answer, Fault, Limits, Wanted, exchange, wait_until
from tilth.data.sources.web.frontier import MOST_REDIRECTS, Entry
from tilth.data.sources.web.http_message import TooLargeError, content_type, decompressed, header
from tilth.data.sources.web.urls import host_of, normalize, place_of

AGENT = "tilth"
ATTEMPTS = 4
BACKOFF = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_WAIT = 300.0
"""Seconds that a host may ask for (Retry-After, Crawl-delay) before its pages are given up."""
ROBOTS_BYTES = 500 << 10
_SITEMAP_BYTES = 50 << 20  # sitemaps.org
_TOLD_FROM = 5.0  # seconds of waiting for a host
_BUSY = {429, 503}
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
NO_ROBOTS = "its robots.txt cannot be had"
REDIRECTS = {301, 302, 303, 307, 308}


class Robots:
    """What a host allows: made from the event that `Courier.robots` gave."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        try:
            from protego import Protego
        except ImportError:
            raise RecipeError("crawling needs protego, which is not installed", "pip install 'tilth[web]'") from None
        self._event = event
        self._rules = Protego.parse(event["text"]) if event["state"] == "there" else None

    def refuses(self, url: str) -> Fault | None:
        """Why a page may not be fetched."""
        state = self._event["state"]
        if state == "unknown":  # RFC 9309, section 2.3.1.4
            return Fault(self._event["rule"], self._event["value"], f"{NO_ROBOTS}: {self._event['detail']}")
        if self._rules is not None and not self._rules.can_fetch(url, AGENT):
            return Fault("robots", "", "its robots.txt forbids it")
        if self.delay > LONGEST_WAIT:
            return Fault(
                "crawl_delay", f"{self.delay:g}", f"its robots.txt asks for {self.delay:g} seconds between pages"
            )
        return None

    @property
    def delay(self) -> float:
        """Seconds between two requests that it asks for."""
        if self._rules is None:
            return 0.0
        rate = self._rules.request_rate(AGENT)
        return max(float(self._rules.crawl_delay(AGENT) or 0), rate.seconds / rate.requests if rate else 0.0)


class Courier:
    """Asks hosts, no oftener than they bear.

    Args:
        named: the addresses that the recipe names; `allow_private` is of their hosts and ports.
        meter: says for which host it waits, where that takes a while.
    """

    def __init__(self, config: CrawlConfig, named: Iterable[str], meter: Meter) -> None:
        self._config, self._named, self._meter = config, frozenset(map(place_of, named)), meter
        self._headers = {"User-Agent": f"{AGENT} (+{config.contact})", "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._free_at: dict[str, float] = {}
        self._delays: dict[str, float] = {}

    def learn(self, origin: str, robots: Robots) -> None:
        """Obeys the delay that a robots.txt asks for from now on, on all ports of its host; where it asks for so long a
        one that its pages are given up, those of other ports do not wait for them.
        """
        if robots.delay <= LONGEST_WAIT:
            self._delays[host_of(origin)] = max(robots.delay, self._delays.get(host_of(origin), 0.0))

    def touched(self, url: str) -> None:
        """The host was asked (perhaps by an attempt before this one): it is left alone for its delay."""
        host = host_of(url)
        delay = max(self._config.delay, self._delays.get(host, 0.0))
        self._free_at[host] = max(time.monotonic() + delay, self._free_at.get(host, 0.0))

    def robots(self, origin: str) -> dict[str, Any]:
        """The event for a robots.txt: `state` is `there` (with `text`), `absent` or `unknown` (with the rule)."""
        url = f"{origin}/robots.txt"
        try:
            for _ in range(MOST_REDIRECTS + 1):
                answer = self._ask(url, Limits(self._config.timeout, self._config.deadline, ROBOTS_BYTES, cut=True))
                target = normalize(answer.header("location"), url) if answer.status in REDIRECTS else None
                if target is None:
                    break
                url = target
            return _robots_event(origin, answer)
        except Fault as fault:
            return _unknown(origin, fault.rule, fault.value, fault.detail)

    def answers(self, origin: str) -> bool:
        """Whether a host says anything now, a refusal too: asks for robots.txt, of which the head is enough."""
        limits = Limits(self._config.timeout, self._config.deadline, ROBOTS_BYTES)
        try:
            self._once(f"{origin}/robots.txt", limits, {}, lambda *_: Fault("answers"))
        except Fault as fault:
            return fault.rule in ("answers", "bad_response", "broken_off")
        raise AssertionError("a head that comes ends it")

    def page(self, entry: Entry, validators: Mapping[str, str]) -> Answer:
        """A page or sitemap, as the server gave it.

        Raises:
            Fault: it was not brought, for the reason given.
        """
        sitemap = entry.kind == "sitemap"
        config = self._config
        limits = Limits(config.timeout, config.deadline, _SITEMAP_BYTES if sitemap else config.max_page_bytes)
        return self._ask(entry.url, limits, validators, lambda *_: None if sitemap else self._wanted(*_))

    def _wanted(self, status: int, headers: tuple[tuple[str, str], ...]) -> Fault | None:
        kind, _ = content_type(header(headers, "content-type"))
        if status == 200 and kind not in self._config.types:
            why = f"{kind} is not among the types of the recipe" if kind else "the server states no type (Content-Type)"
            return Fault("content_type", kind, why)
        return None

    def _ask(
        self, url: str, limits: Limits, validators: Mapping[str, str] | None = None, wanted: Wanted = lambda *_: None
    ) -> Answer:
        def pause(seconds: float) -> None:
            self._free_at[host_of(url)] = max(time.monotonic() + seconds, self._free_at.get(host_of(url), 0.0))

        return patiently(lambda: self._once(url, limits, validators or {}, wanted), pause)

    def _once(self, url: str, limits: Limits, validators: Mapping[str, str], wanted: Wanted) -> Answer:
        self._wait_for(host_of(url))
        private = self._config.allow_private and place_of(url) in self._named
        headers = {**self._headers, **validators}
        try:
            return exchange(url, headers, limits, allow_private=private, wanted=wanted)
        finally:
            self.touched(url)

    def _wait_for(self, host: str) -> None:
        moment = self._free_at.get(host, 0.0)
        wait = moment - time.monotonic()
        if wait >= _TOLD_FROM:
            self._meter.trouble = f"waiting {wait:.0f} s for {host}"
        wait_until(moment)
        self._meter.trouble = ""


def patiently(once: Callable[[], Answer], pause: Callable[[float], None]) -> Answer:
    """One answer, after as many attempts as may help; `pause` is told how long to wait before the next.

    Raises:
        Fault: of the last attempt, or of one that no other can better.
    """
    for attempt in range(1, ATTEMPTS + 1):
        wait = BACKOFF * 2 ** (attempt - 1)
        try:
            answer = once()
        except Fault as fault:
            if attempt == ATTEMPTS or not fault.again:
                raise
        else:
            asked = retry_after(answer.header("retry-after")) if answer.status in _BUSY else None
            wait = asked or wait
            if attempt == ATTEMPTS or answer.status not in _TRY_AGAIN or wait > LONGEST_WAIT:
                return answer
        pause(wait)
    raise AssertionError("the last attempt returns or raises")


def _robots_event(origin: str, answer: Answer) -> dict[str, Any]:
    if answer.status in REDIRECTS or (400 <= answer.status < 500 and answer.status not in _BUSY):
        return {"robots": origin, "state": "absent", "status": answer.status}  # RFC 9309, sections 2.3.1.2 and 2.3.1.3
    if answer.status != 200:
        return _unknown(origin, "robots_unavailable", str(answer.status), f"the server answers {answer.status}")
    try:
        raw = decompressed(answer.body, answer.header("content-encoding"), ROBOTS_BYTES)
    except (TooLargeError, ValueError) as error:
        why = str(error) or f"more than {ROBOTS_BYTES} bytes when decompressed"
        return _unknown(origin, "robots_unavailable", "", why)
    return {"robots": origin, "state": "there", "text": raw.decode("utf-8-sig", "replace")}


def _unknown(origin: str, rule: str, value: str, detail: str) -> dict[str, Any]:
    return {"robots": origin, "state": "unknown", "rule": rule, "value": value, "detail": detail}
