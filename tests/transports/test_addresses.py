"""Where an agent may be: every address that a name could lead to, and every trick to hide one."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx
import pytest

from cluster.domain.base.errors import AgentRefused, AgentUnavailable, EndpointForbidden
from cluster.http.addresses import forbidden, safe_url
from tests.support.asking import LOOPBACK, question, transports
from tests.support.dns import dns_server
from tests.support.endpoints import serving

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "::127.0.0.1",
    ],
)
def test_an_address_that_is_not_public_is_forbidden(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert not forbidden(ipaddress.ip_address(address), ())


def test_an_allowed_network_does_not_open_another() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"),)
    assert not forbidden(ipaddress.ip_address("10.1.2.3"), allowed)
    assert forbidden(ipaddress.ip_address("10.2.2.3"), allowed)
    assert forbidden(ipaddress.ip_address("::ffff:10.2.2.3"), allowed)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://127.1:1/",
        "http://2130706433:1/",
        "http://0x7f000001:1/",
        "http://[::ffff:127.0.0.1]:1/",
        "http://[64:ff9b::7f00:1]:1/",
        "http://[2002:7f00:1::]:1/",
        "http://169.254.169.254/latest/meta-data",
        "ftp://example.org/",
    ],
)
async def test_an_inner_endpoint_is_refused_however_it_is_written(endpoint: str) -> None:
    ours = transports()
    with pytest.raises((EndpointForbidden, AgentUnavailable)) as refused:
        await ours.ask(question(endpoint))
    assert isinstance(refused.value, EndpointForbidden) or "no address" in str(refused.value)
    await ours.close()


async def test_a_name_rebound_to_an_inner_address_leads_nowhere() -> None:
    """The classic rebinding: the second answer must never be connected to."""
    hits: list[str] = []

    def inside(request: Any) -> httpx.Response:
        hits.append(request.url.path)
        return httpx.Response(200, json={"text": "the secret"})

    async with serving(inside) as url, dns_server([PUBLIC], ["127.0.0.1"]) as (resolver, zone):
        port = httpx.URL(url).port
        ours = transports(resolver=resolver)
        for _ in range(3):
            with pytest.raises((EndpointForbidden, AgentUnavailable)):
                await ours.ask(question(f"http://rebind.test:{port}/", timeout_s=0.5))
        await ours.close()
    assert hits == []
    assert zone.queries >= 2


async def test_one_inner_address_among_public_ones_is_enough_to_refuse() -> None:
    async with dns_server([PUBLIC, "127.0.0.1"]) as (resolver, zone):
        ours = transports(resolver=resolver)
        with pytest.raises(EndpointForbidden, match=r"127\.0\.0\.1"):
            await ours.ask(question("http://mixed.test/"))
        await ours.close()
    assert zone.queries == 1


async def test_a_name_is_resolved_once_and_sent_in_the_host_header() -> None:
    hosts: list[str] = []

    def answer(request: Any) -> httpx.Response:
        hosts.append(request.headers["host"])
        return httpx.Response(200, json={"text": "yes"})

    async with serving(answer) as url, dns_server(["127.0.0.1"], ["10.0.0.1"]) as (resolver, zone):
        port = httpx.URL(url).port
        ours = transports(LOOPBACK, resolver=resolver)
        for _ in range(2):
            assert (await ours.ask(question(f"http://agent.test:{port}/"))).text == "yes"
        await ours.close()
    assert hosts == [f"agent.test:{port}"] * 2
    assert zone.queries == 1, "the open connection stays at the address that was checked"


async def test_a_redirect_is_not_followed() -> None:
    hits: list[str] = []

    def answer(request: Any) -> httpx.Response:
        hits.append(request.url.path)
        return httpx.Response(307, headers={"location": "http://169.254.169.254/latest/meta-data"})

    async with serving(answer) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentRefused, match="307"):
            await ours.ask(question(f"{url}/first"))
        await ours.close()
    assert hits == ["/first"]


def test_a_url_is_shown_without_its_secrets() -> None:
    shown = safe_url("https://user:pass@agent.test:8443/v1?token=abc#part")
    assert shown == "https://agent.test:8443/v1"
    assert safe_url("http://[::1]:80/x") == "http://[::1]/x"
