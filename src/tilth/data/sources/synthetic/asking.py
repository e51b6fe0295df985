"""Sends the requests that have no answer yet, several at a time, and stops where stopping is right.

    ask(config, prompts, store, budget, key) -> str      why the last of those that failed did

Before each attempt: it fits below the cost cap (else those under way are waited for, and then all stops, with the
arithmetic), it is its turn by both rates, and `sent` is on disk. A failed attempt is repeated up to `ATTEMPTS` times,
after what the server asks for (Retry-After holds for all requests), or twice as long each time. An endpoint that never
answered anything is given up after `FIRST_PATIENCE`. Meanwhile the meter says what fails, and how often.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tilth.core.errors import DataError
from tilth.core.progress import Meter
from tilth.core.random import derive_seed
from tilth.data.sources.synthetic.budget import Budget, Tokens
from tilth.data.sources.synthetic.config import SyntheticConfig
from tilth.data.sources.synthetic.endpoint import Answer, Endpoint, FailedError
from tilth.data.sources.synthetic.pacer import Pacer
from tilth.data.sources.synthetic.prompts import Prompt
from tilth.data.sources.synthetic.store import Store

ATTEMPTS = 8
BACKOFF = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_BACKOFF = 60.0
LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait; for more the run stops, and goes on when it is started again."""
FIRST_PATIENCE = 20.0
"""Seconds of attempts after which an endpoint is given up that has answered nothing, in this run or an earlier one."""
MINUTE = 60.0
_HOPELESS = 20  # requests in a row that all attempts failed for
_ALL_REJECTED = 5  # requests that the server refused, with no answer at all so far
_SHOWN = 160  # characters of why an attempt failed, while there is hope
_MESSAGE_TOKENS = 32  # what a chat template may put around a message, generously


def ask(
    config: SyntheticConfig, prompts: Iterator[Prompt], store: Store, budget: Budget, key: str | None, meter: Meter
) -> str:
    """Brings the answers to `prompts` into the store.

    Raises:
        DataError: the endpoint refuses for good, asks for too long a wait, or the cost cap is reached. What was
            answered is in the store.
    """
    work = _ask(config, prompts, store, budget, key, meter)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:  # in a notebook, whose own loop is running
        return pool.submit(asyncio.run, work).result()


async def _ask(
    config: SyntheticConfig, prompts: Iterator[Prompt], store: Store, budget: Budget, key: str | None, meter: Meter
) -> str:
    async with Endpoint(config, key) as endpoint:
        desk = _Desk(config, store, budget, endpoint, meter)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(config.concurrency):
                    group.create_task(desk.work(prompts))
        except BaseExceptionGroup as errors:  # the first as it is: it may be the disk's, which has words of its own
            raise errors.exceptions[0] from None
        if desk.stop is not None:
            raise desk.stop
        return desk.last


def bound_of(prompt: Prompt, config: SyntheticConfig) -> Tokens:
    """The most tokens that a request can use: a token is at least a byte of text."""
    return Tokens(len(prompt.content) + _MESSAGE_TOKENS * len(prompt.body["messages"]), config.max_tokens)


class _Desk:
    """What the workers share."""

    def __init__(self, config: SyntheticConfig, store: Store, budget: Budget, endpoint: Endpoint, meter: Meter) -> None:
        self._config, self._store, self._budget, self._endpoint = config, store, budget, endpoint
        self._meter = meter
        clock: Callable[[], float] = asyncio.get_running_loop().time
        self._clock = clock
        self._requests = Pacer(config.requests_per_minute, clock, MINUTE)
        self._tokens = Pacer(config.tokens_per_minute, clock, MINUTE)
        self._order, self._settled = asyncio.Lock(), asyncio.Condition()
        self._resume_at = clock()
        self._hopeless = self._rejected = self._failed = 0
        self._first_failed: float | None = None
        self._alive = bool(store.done)
        self._stopped = asyncio.Event()
        self.last = ""
        self.stop: DataError | None = None

    async def work(self, prompts: Iterator[Prompt]) -> None:
        """Takes one prompt after another until none is left, or there is a reason to stop; what is under way is
        waited for, since it is paid for.
        """
        try:
            while self.stop is None and (prompt := next(prompts, None)) is not None:
                await self._until_answered(prompt)
        except DataError as error:
            self.stop = self.stop or error
            self._stopped.set()

    async def _until_answered(self, prompt: Prompt) -> None:
        bound = bound_of(prompt, self._config)
        for attempt in range(ATTEMPTS):
            await self._its_turn(bound)
            wait = 0.0
            used: Tokens | None = Tokens()
            try:
                self._store.sent(prompt.number, bound)
                answer = await self._endpoint.ask(prompt.content)
                used = answer.used if answer.status == 200 else Tokens()
                self._keep(prompt, answer, used)
                return
            except FailedError as error:
                used = None if error.paid else Tokens()
                self._store.failed(prompt.number, str(error), used)
                self.last = str(error)
                self._alive = self._alive or error.wait is not None  # it is busy, not down
                self._tell_failure()
                wait = self._wait(error, prompt.number, attempt)
            finally:
                self._budget.settle(bound, bound if used is None else used)
                async with self._settled:
                    self._settled.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopped.wait()
            if self.stop is not None:
                return
        self._give_up()

    def _tell_failure(self) -> None:
        """Counts an attempt that failed.

        Raises:
            DataError: nothing was ever answered, for long enough.
        """
        self._failed += 1
        now = self._clock()
        self._first_failed = now if self._first_failed is None else self._first_failed
        attempts = "1 attempt" if self._failed == 1 else f"{self._failed:,} attempts in a row"
        self._meter.trouble = f"{attempts} failed, at last: {self.last[:_SHOWN]}"
        if not self._alive and self._failed > 1 and (passed := now - self._first_failed) >= FIRST_PATIENCE:
            raise DataError(
                f"{self._config.base_url} answers nothing: {self._failed:,} attempts in {passed:.0f} s failed, at "
                f"last: {self.last}",
                "check `base_url:` and that the endpoint runs, and type the same command",
            )

    async def _its_turn(self, bound: Tokens) -> None:
        async with self._order, self._settled:  # in order: a cheap request does not overtake one that must wait
            while not self._budget.fits(bound):
                if self._budget.reserved == Tokens():
                    raise DataError(
                        f"the cost cap of the synthetic source is reached: {self._budget.arithmetic(bound)}",
                        f"raise `cost_cap:`, or lower `requests:` to what is there ({self._there()})",
                    )
                await self._settled.wait()  # what is under way may cost less than it could
            self._budget.reserve(bound)
        try:
            await self._requests.take(1)
            await self._tokens.take(bound.input + bound.output)
            while (wait := self._resume_at - self._clock()) > 0:
                await asyncio.sleep(wait)
        except BaseException:
            self._budget.settle(bound, Tokens())
            raise

    def _there(self) -> str:
        """How many requests have an answer, from the first on, and how many behind one that has none: they are paid
        for as well, and a lower number leaves them out.
        """
        row, answers = self._store.first_missing, len(self._store.done)
        if row == answers:
            return f"{row}"
        return (
            f"{row}: request {row + 1} has no answer, and {answers - row} of the {answers} answered ones are behind it"
        )

    def _keep(self, prompt: Prompt, answer: Answer, used: Tokens | None) -> None:
        content = {
            "status": answer.status,
            "content": answer.content,
            "finish_reason": answer.finish_reason,
            "model": answer.model,
            "usage": None if answer.used is None else [answer.used.input, answer.used.output],
            "seed": prompt.seed.label,
            "group": prompt.seed.group,
        }
        self._hopeless = self._failed = 0
        self._alive, self._meter.trouble = True, ""
        if answer.status != 200:
            self._rejected += 1
            if self._rejected >= _ALL_REJECTED and not self._store.done:
                raise DataError(
                    f"{self._config.base_url} refuses each request; the last ({answer.status}): {answer.content}",
                    "check `model:`, `max_tokens_key:` and `extra:`",
                )
            if not self._store.done:  # not kept yet: with nothing answered the fault is the recipe's, rather
                self.last = f"it answers {answer.status}: {answer.content}"
                self._store.failed(prompt.number, self.last, Tokens())
                return
        self._store.answered(prompt.number, used, content)
        self._meter.add(1, len(answer.content or ""))

    def _wait(self, error: FailedError, number: int, attempt: int) -> float:
        """Seconds until this request is sent again; where the server says when, none is sent before."""
        if error.wait is None:
            jitter = 0.5 + derive_seed(self._config.seed, "backoff", number, attempt) / 2**64
            wait = min(BACKOFF * 2.0**attempt, LONGEST_BACKOFF) * jitter
            if self._alive or self._first_failed is None:
                return wait
            return min(wait, max(0.0, self._first_failed + FIRST_PATIENCE - self._clock()))  # a last attempt then
        if error.wait > LONGEST_WAIT:
            raise DataError(
                f"{self._config.base_url} asks to wait {error.wait:.0f} seconds: {error}",
                "type the same command then: the answers that came are kept",
            )
        self._resume_at = max(self._resume_at, self._clock() + error.wait)
        return error.wait

    def _give_up(self) -> None:
        self._hopeless += 1
        if self._hopeless >= _HOPELESS:
            raise DataError(
                f"{self._config.base_url}: {_HOPELESS} requests in a row failed {ATTEMPTS} times each, at last with: "
                f"{self.last}",
                "check the endpoint; the same command goes on, the answers that came are kept",
            )
