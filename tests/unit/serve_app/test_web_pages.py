"""Which calls a system without authentication takes for those of other people's web pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from cluster.domain.base.errors import Forbidden
from serve_app.auth.web_pages import WebPages

HERE = "127.0.0.1:8080"


def _refuses(*headers: tuple[str, str], cors_origins: tuple[str, ...] = ("*",), on_loopback: bool = True) -> bool:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        WebPages(cors_origins, on_loopback=on_loopback).check(HTTPConnection({"type": "http", "headers": encoded}))
    except Forbidden:
        return True
    return False


@pytest.mark.parametrize(
    "host",
    [HERE, "localhost", "localhost.:8080", "localhost:8080", "app.localhost:1", "[::1]:8080", "10.0.0.7:80", None],
)
def test_what_is_no_browser_passes(host: str | None) -> None:
    """It sends no origin. An address as the host is no name that somebody could point elsewhere."""
    assert not _refuses(*([] if host is None else [("host", host)]))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io:8080", "", "[::1", "a b", "x:y"],
)
def test_a_foreign_host_is_refused_on_loopback_only(host: str) -> None:
    assert _refuses(("host", host))
    assert not _refuses(("host", host), on_loopback=False)
    assert _refuses(("host", host), ("origin", f"http://{host}"))


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "http://evil.example",
            "https://evil.example:8080",
            "null",
            "",
            "file://",
            "chrome-extension://abc",
            "127.0.0.1:8080",
        ),
        *(
            "http://127.0.0.1:8081",
            "http://127.0.0.1",
            "http://localhost:8080",
            "http://127.0.0.1.evil.example:8080",
            "http://[::1",
        ),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    for on_loopback in (True, False):
        assert _refuses(("host", HERE), ("origin", origin), on_loopback=on_loopback)
        assert _refuses(("host", HERE), ("origin", f"http://{HERE}"), ("origin", origin), on_loopback=on_loopback)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HERE, f"http://{HERE}"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost:80"),
        ("[::1]:8080", "http://[::1]:8080"),
        # A proxy that ends TLS and keeps the host, with and without the port in it.
        ("cp.example", "https://cp.example"),
        ("cp.example:443", "https://cp.example"),
    ],
)
def test_the_systems_own_pages_pass(host: str, origin: str) -> None:
    assert not _refuses(("host", host), ("origin", origin), on_loopback="example" not in host)


def test_named_origins_pass_and_a_star_names_nobody() -> None:
    named = ("*", "https://board.example", "http://localhost:3000")
    for origin in named[1:]:
        assert _refuses(("host", HERE), ("origin", origin))
        assert not _refuses(("host", HERE), ("origin", origin), cors_origins=named)
    for other in ("http://board.example", "https://board.example:444", "http://localhost:3001"):
        assert _refuses(("host", HERE), ("origin", other), cors_origins=named)
    # A proxy in front that keeps the host of a named origin.
    assert not _refuses(("host", "board.example"), cors_origins=named)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40), st.text(alphabet="ab:/.[]@#?019", max_size=12))
def test_no_header_makes_the_check_fail(host: str, origin: str) -> None:
    """And no origin but the host's own passes."""
    if not _refuses(("host", host), ("origin", f"http://{origin}"), on_loopback=False):
        assert origin.split("/")[0].split("@")[-1].split(":")[0] in host.lower()
