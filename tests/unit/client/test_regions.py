"""A call that another region has to answer is made there once, and credentials go to no address but those that are known."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.errors import InvalidRequest
from aragora_worker.errors import ApiError
from aragora_worker.regions import KnownRegions
from tests.support.other_regions import two_regions

KEY = "Bearer secret"


async def test_a_call_goes_on_where_its_zone_is() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere = other + "/"
        async with ControlPlaneClient(url, "secret", other_urls=[other]) as client:
            for _ in range(2):
                assert (await client.post("/tasks", {"a": 1}))["task_id"] == "t"
            assert client.base_url == other
    assert [call[1:] for call in first.calls] == [(KEY, b'{"a":1}')]
    assert [call[1:] for call in second.calls] == [(KEY, b'{"a":1}')] * 2


async def test_an_address_that_is_not_known_gets_no_credential() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere = other
        async with ControlPlaneClient(url, "secret") as client:
            with pytest.raises(ApiError) as raised:
                await client.post("/tasks", {"a": 1})
        assert (raised.value.status, raised.value.code, other in raised.value.message) == (421, "wrong_zone", True)
        assert second.calls == []


async def test_regions_that_name_each_other_are_asked_once_each() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere, second.elsewhere = other, url
        async with ControlPlaneClient(url, "secret", other_urls=[other]) as client:
            with pytest.raises(ApiError) as raised:
                await client.post("/tasks", {"a": 1})
        assert raised.value.code == "wrong_zone"
        assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_a_stream_goes_on_where_its_zone_is() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere = other
        async with ControlPlaneClient(url, "secret", other_urls=[other]) as client:
            events = client.events()
            assert (await anext(events)).seq == 7
            await events.aclose()  # type: ignore[attr-defined]
        assert [call[1] for call in (*first.calls, *second.calls)] == [KEY, KEY]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"code": "wrong_zone", "url": "https://EU.example.com:443/cp/"}, "https://eu.example.com/cp"),
        ({"code": "wrong_zone", "url": "https://eu.example.com/cp2"}, None),
        ({"code": "wrong_zone", "url": "https://eu.example.com.evil.org/cp"}, None),
        ({"code": "wrong_zone", "url": "http://eu.example.com/cp"}, None),
        ({"code": "wrong_zone", "url": "https://us.example.com"}, None),
        ({"code": "wrong_zone", "url": None}, None),
        ({"code": "wrong_zone", "url": "http://[::"}, None),
        ({"code": "not_found", "url": "https://eu.example.com/cp"}, None),
        (["wrong_zone"], None),
    ],
)
def test_only_a_known_address_is_followed(answer: Any, found: str | None) -> None:
    known = KnownRegions(["https://us.example.com", "https://eu.example.com/cp"])
    assert known.instead("https://us.example.com", httpx.Response(421, json=answer)) == found
    assert known.instead("https://us.example.com", httpx.Response(409, json=answer)) is None
    assert known.instead("https://us.example.com", httpx.Response(421, content=b"<html>")) is None


def test_other_urls_are_checked_as_the_first_is() -> None:
    with pytest.raises(InvalidRequest):
        ControlPlaneClient("http://127.0.0.1:1", other_urls=["ftp://127.0.0.1"])
    assert ControlPlaneClient("http://127.0.0.1:1", other_urls=["http://127.0.0.1:2"]).base_url == "http://127.0.0.1:1"
