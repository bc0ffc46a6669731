"""Who does not serve A2A needs not have its package, and who does says by which URL it is called."""

from __future__ import annotations

import sys

import pytest

from serve_app.a2a.making import A2AMissing, serve_a2a
from tests.support.api import api_settings
from tests.support.stores import StoreUrls

URLS = StoreUrls(database="postgresql://h/d", redis="redis://h")


def test_an_application_that_lacks_the_package_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2a", None)  # as where nobody has installed it
    with pytest.raises(A2AMissing, match=r"pip install 'aragora-control-plane\[a2a\]'"):
        serve_a2a(None, api_settings(URLS, "s", a2a_enabled=True))  # type: ignore[arg-type]


def test_an_application_that_others_reach_has_to_know_its_url() -> None:
    with pytest.raises(A2AMissing, match="needs ARAGORA_PUBLIC_URL"):
        serve_a2a(None, api_settings(URLS, "s", a2a_enabled=True, http_host="0.0.0.0"))  # type: ignore[arg-type]
