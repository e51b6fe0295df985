"""What a busy server asks for.

    retry_after(value) -> float | None      seconds to wait, by the header Retry-After

Crawls, downloads and requests to an endpoint read it alike; how long each of them waits at most is its own affair.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def retry_after(value: str) -> float | None:
    """Seconds to wait from now on (RFC 9110, section 10.2.3): a number, or until a date; None when it is neither.

    Fractions are no part of the RFC, but sent.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value[:12])  # thirty thousand years are enough, and finite
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):  # years and offsets of any length come through here
        return None
