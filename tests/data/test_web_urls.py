"""One spelling for each address."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.sources.web.urls import host_of, normalize, origin_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80/a/../b c?q=é#top", "http://example.com/b%20c?q=%C3%A9"),
        ("https://example.com:443", "https://example.com/"),
        ("http://example.com:8080/a/./b/..", "http://example.com:8080/a/"),
        ("http://example.com/../../x%2fy", "http://example.com/x%2fy"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("  http://exa\nmple.com/\tx ", "http://example.com/x"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://example.com./", "http://example.com/"),
        ("http://user:word@example.com/", None),
        ("javascript:alert(1)", None),
        ("mailto:a@b.org", None),
        ("http://", None),
        ("http://exam ple.com/", None),
        ("http://example.com:99999/", None),
        ("http://[bad/", None),
        ("http://a..b/", None),
    ],
)
def test_one_spelling(url: str, expected: str | None) -> None:
    assert normalize(url) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "http://h/%C3%BC?q=%C3%BC%E2%82%AC&%D0%B6"),
        ("cp1252", "http://h/%C3%BC?q=%FC%80&%26%231078%3B"),
        ("cp1251", "http://h/%C3%BC?q=%26%23252%3B%88&%E6"),
    ],
)
def test_queries_are_asked_in_the_encoding_of_the_page(encoding: str, expected: str) -> None:
    # As in url/resources/percent-encoding.json of web-platform-tests, which has the dagger too.
    assert normalize("http://h/?†", encoding="cp1252") == "http://h/?%86"
    assert normalize("/ü?q=ü€&ж", "http://h/", encoding) == expected


@given(st.text(alphabet="ab/.%20é?#: ", max_size=12))
def test_a_normal_address_stays_and_agrees_with_the_standard_library(path: str) -> None:
    found = normalize("http://h/" + path)
    assert found is not None and normalize(found) == found and found.isascii()
    assert origin_of(found) == "http://h" and host_of(found) == "h"
    kept = urlsplit(urljoin("http://h/", found))  # urljoin takes dot segments out: none may be left for it
    assert urlsplit(found).path == kept.path
