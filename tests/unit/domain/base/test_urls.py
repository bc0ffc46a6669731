"""URLs as they are shown: no secret is left, the rest is unchanged, and a masked URL is known as one."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.urls import is_masked, shown_url

_UNCHANGED = (
    "http://agents.example:9000/work",
    "https://api.example/v1?api-version=2024-10-21",
    "http://h/?code=",
    "http://h/path@x?to=a@b.example",
    "http://[::1]:9/",
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
        *((url, url) for url in _UNCHANGED),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert shown_url(shown) == shown
    assert is_masked(shown) == (url not in _UNCHANGED and "#" not in url)
    assert not is_masked(url)


_PART = st.text(st.characters(codec="ascii", exclude_characters="/?#*&;=%"), min_size=1, max_size=8)


@given(st.text("ab:@!$'()+,.~-_", min_size=1, max_size=10), st.sampled_from(["key", "access_token", "x-sig"]), _PART)
def test_what_a_client_would_send_as_user_and_password_is_masked(user: str, name: str, value: str) -> None:
    url = f"https://{user}@agents.example/x?{name}={value}&v=1"
    shown = shown_url(url)
    assert shown == f"https://***@agents.example/x?{name}=***&v=1"
    assert httpx.URL(shown).userinfo == b"***"
    assert is_masked(shown)
