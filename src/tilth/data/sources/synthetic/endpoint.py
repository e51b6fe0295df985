"""One request to an endpoint, and what came of it.

    async with Endpoint(config, key) as endpoint:
        await endpoint.ask(body) -> Answer      an answer, also one that refuses; else
                                                FailedError: another attempt may help, `wait` says when
                                                DataError: no attempt will

The key is in the header of the request and nowhere else; it is taken out of what a server says before anyone sees it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from tilth.core.errors import DataError, RecipeError
from tilth.data.sources.retry import retry_after
from tilth.data.sources.synthetic.budget import Tokens
from tilth.data.sources.synthetic.config import SyntheticConfig

_REJECTED = {400, 413, 422}  # of this request, not of all
_UNPAID = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_WITHOUT_HOPE = ("insufficient_quota", "billing_hard_limit_reached")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint answered; `status` other than 200 is its refusal of this one request."""

    status: int
    content: str
    finish_reason: str | None = None
    model: str | None = None
    used: Tokens | None = None


class FailedError(Exception):
    """An attempt that came to nothing.

    Attributes:
        paid: whether the server may have done the work nevertheless.
        wait: seconds that it asks to wait, where it does.
    """

    def __init__(self, why: str, *, paid: bool, wait: float | None = None) -> None:
        super().__init__(why)
        self.paid, self.wait = paid, wait


class Endpoint:
    """A connection to `base_url`; several requests may be under way."""

    def __init__(self, config: SyntheticConfig, key: str | None) -> None:
        self._config, self._key = config, key
        self._http = _library()
        self._url = f"{config.base_url}/chat/completions"
        self._client: Any = None

    async def __aenter__(self) -> Endpoint:
        # No redirects: they would carry the key elsewhere. No limit of httpx's own: the deadline is for all of it.
        limits = self._http.Limits(max_connections=self._config.concurrency)
        self._client = self._http.AsyncClient(timeout=None, follow_redirects=False, limits=limits)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, content: bytes) -> Answer:
        """Sends a body and waits for the answer, no longer than the deadline."""
        try:
            async with asyncio.timeout(self._config.deadline):
                status, headers, body = await self._exchange(content)
        except TimeoutError:
            raise FailedError(f"no answer within {self._config.deadline:g} s", paid=True) from None
        except (self._http.ConnectError, self._http.ConnectTimeout, self._http.ProxyError) as error:
            raise FailedError(f"cannot connect: {self._clean(str(error))}", paid=False) from None
        except self._http.HTTPError as error:
            raise FailedError(self._clean(str(error)) or type(error).__name__, paid=True) from None
        if status == 200:
            return self._read(body)
        return self._refused(status, headers, body)

    async def _exchange(self, content: bytes) -> tuple[int, Any, bytes]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "tilth"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        async with self._client.stream("POST", self._url, content=content, headers=headers) as response:
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > self._config.max_response_bytes:
                    raise FailedError(f"more than {self._config.max_response_bytes} bytes of answer", paid=True)
            return response.status_code, response.headers, bytes(body)

    def _read(self, body: bytes) -> Answer:
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            message = choice["message"]
            content = message.get("content") or ""
            if not isinstance(content, str):
                raise TypeError("its content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            why = f"the answer is no chat completion ({type(error).__name__}): {self._said(body)}"
            raise FailedError(why, paid=True) from None
        finish = "refusal" if message.get("refusal") else choice.get("finish_reason")
        model = value.get("model")
        return Answer(
            200,
            content,
            finish if isinstance(finish, str) else None,
            model if isinstance(model, str) else None,
            _used(value.get("usage")),
        )

    def _refused(self, status: int, headers: Any, body: bytes) -> Answer:
        said = self._said(body)
        if status in _UNPAID and not any(word in said for word in _WITHOUT_HOPE):
            raise FailedError(
                f"it answers {status}: {said}", paid=False, wait=retry_after(headers.get("retry-after", ""))
            )
        if status in _REJECTED:
            return Answer(status, said)
        remedies = {
            401: "check the key: " + self._variable(),
            403: "check what the key may do: " + self._variable(),
            404: f"check `base_url: {self._config.base_url}` and `model: {self._config.model}`",
            402: "the account has no credit left",
            429: "the account has no credit left",
        }
        elsewhere = f" to {headers.get('location', '')}" if 300 <= status < 400 else ""
        raise DataError(
            f"{self._url} answers {status}{elsewhere}: {said}",
            f"{remedies.get(status, 'check `base_url:`')}; the answers that came are kept",
        )

    def _variable(self) -> str:
        name = self._config.api_key_env
        return f"the environment variable {name}" if name else "name its environment variable in `api_key_env:`"

    def _said(self, body: bytes) -> str:
        return " ".join(self._clean(body[:2000].decode("utf-8", "replace")).split())[:300] or "nothing"

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _used(usage: Any) -> Tokens | None:
    """The tokens that an answer says were used; None when it does not say."""
    if not isinstance(usage, dict):
        return None
    sent, received = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(sent) is not int or type(received) is not int or min(sent, received) < 0:
        return None
    return Tokens(sent, received)


def _library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise RecipeError("a source `synthetic:` needs httpx2", "pip install 'tilth[synthetic]'") from None
    return httpx2
