"""URLs as they are shown: no secret is left, the rest is unchanged, and a masked URL is known as one."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.urls import is_masked, safe_url, shown_url, without_userinfo, without_userinfos

_UNCHANGED = (
    "http://agents.example:9000/work",
    "https://api.example/v1?api-version=2024-10-21",
    "http://h/?code=",
    "http://h/path@x?to=a@b.example",
    "http://[::1]:9/",
    "http://[::1]/x@y",
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/x", "https://***@h/x"),
        ("https://u@h", "https://***@h"),
        ("http://a@b:c@h:1/", "http://***@h:1/"),
        ("HTTP://u:p@[::1]:9", "HTTP://***@[::1]:9"),
        ("https://h/?api_key=1&v=2", "https://h/?api_key=***&v=2"),
        ("https://h/?a%70iKey=1;X-Amz-Signature=2", "https://h/?a%70iKey=***;X-Amz-Signature=***"),
        ("https://h/#token", "https://h/"),
        ("http://u:12/pass@h/x", "http://***@h/x"),
        ("http://u:/pass@h/x", "http://***@h/x"),
        ("http://u:1#pa@ss@h/x?key=1", "http://***@h/x?key=***"),
        ("http://u:p@ss:1?word@h:9", "http://***@h:9"),
        ("http://[::1]:12/pass@h", "http://***@h"),
        *((url, url) for url in _UNCHANGED),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert shown_url(shown) == shown
    assert is_masked(shown) == ("***" in shown)
    assert not is_masked(url)


_PART = st.text(st.characters(codec="ascii", exclude_characters="/?#*&;=%@"), min_size=1, max_size=8)


@given(st.text("ab:@!$'()+,.~-_", min_size=1, max_size=10), st.sampled_from(["key", "access_token", "x-sig"]), _PART)
def test_what_a_client_would_send_as_user_and_password_is_masked(user: str, name: str, value: str) -> None:
    url = f"https://{user}@agents.example/x?{name}={value}&v=1"
    shown = shown_url(url)
    assert shown == f"https://***@agents.example/x?{name}=***&v=1"
    assert httpx.URL(shown).userinfo == b"***"
    assert is_masked(shown)


_PASSWORD = st.text("s3:@/?#", min_size=1, max_size=8).map(lambda word: f":{word}S")


@given(st.sampled_from(["", "me", "a@b"]), _PASSWORD, st.sampled_from(["", ":9"]), st.sampled_from(["", "/x"]))
def test_no_way_to_show_a_url_shows_a_password(user: str, password: str, port: str, path: str) -> None:
    """One rule for a URL that is shown, one that is named in an error, one in a text, and several in a line of a log."""
    url, rest = f"https://{user}{password}@agents.example{port}{path}", f"agents.example{port}{path}"
    assert shown_url(url) == without_userinfo(url) == without_userinfos(url) == f"https://***@{rest}"
    assert safe_url(url) == f"https://{rest}"
    line = f"'{url}' and \"http://h/x\" of {url}: a@b"
    assert without_userinfos(line) == f"'https://***@{rest}' and \"http://h/x\" of https://***@{rest}: a@b"


def test_an_error_names_a_url_without_its_query() -> None:
    assert safe_url("https://user:pass@agent.test:8443/v1?token=abc#part") == "https://agent.test:8443/v1"
    assert safe_url("http://[::1]:80/x") == "http://[::1]:80/x"
    assert safe_url("no url") == "no url"
