"""Where an agent may be: every address that a name could lead to, and every trick to hide one."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import AgentRefused, AgentUnavailable, EndpointForbidden, InvalidRequest
from cluster.http.addresses import check_endpoint, forbidden
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
        "::ffff:0:7f00:1",
        "fec0::1",
        "4000::1",
        "5f00::1",
        "3fff::1",
        "192.88.99.1",
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


_INNER = ("10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.3.4", "0.0.0.0", "100.64.1.1", "224.0.0.5")


def _notations(address: ipaddress.IPv4Address) -> list[str]:
    """Ways to write an address that the system's resolver or a network understands."""
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        f"{address}.",
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"[::ffff:{address}]",
        f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[64:ff9b::{address}]",
        f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]",
        f"[::{address}]",
    ]


@given(
    address=st.sampled_from([ipaddress.IPv4Address(inner) for inner in _INNER])
    | st.ip_addresses(v=4, network="10.0.0.0/8")
    | st.ip_addresses(v=4, network="169.254.0.0/16"),
    notation=st.integers(0, 13),
    scheme=st.sampled_from(["http", "https", "HTTP"]),
    rest=st.sampled_from(["", "/", ":8080/v1", ":65535/?x=1"]),
)
@settings(derandomize=True, max_examples=300)
def test_no_notation_hides_an_inner_address(
    address: ipaddress.IPv4Address, notation: int, scheme: str, rest: str
) -> None:
    with pytest.raises((EndpointForbidden, InvalidRequest), match=r"ARAGORA_ALLOWED_NETWORKS|is not a URL"):
        check_endpoint(f"{scheme}://{_notations(address)[notation]}{rest}", ())


@pytest.mark.parametrize(
    "endpoint",
    ["http://localhost/", "http://LOCALHOST.:80/", "http://a.localhost/", "http://[::1]/", "http://[fe80::1]:1/",
     "http://[fc00::1]/", "http://user:word@10.0.0.1/"],
)  # fmt: skip
def test_inner_names_and_addresses_are_refused(endpoint: str) -> None:
    with pytest.raises(EndpointForbidden):
        check_endpoint(endpoint, ())


@pytest.mark.parametrize(
    "endpoint",
    ["", "http://", "http:///path", "http://:80/", "http://?x", "http://a:99999", "http://a:65536/", "http://a:0/",
     "http://a:-1", "http://a:b", "http://a b/", "http://127%2e0.0.1/", "ftp://a/", "//a/", "a:80", "http:a", "http://./",
     "http://[::1", "http://[zz]/", "http://\n10.0.0.1/"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_in_a_sentence(endpoint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_endpoint(endpoint, ())
    assert refused.value.message.endswith(".")
    assert refused.value.code == "invalid_endpoint"


@pytest.mark.parametrize("character", "@:/#?")
@pytest.mark.parametrize("password", ["Sup3r{}Secret", "0{}Secret", "99999{}Secret", "[Sup3r{}Secret", "Sup3r\n{}"])
def test_a_refused_endpoint_quotes_nothing_of_its_password(password: str, character: str) -> None:
    endpoint = f"http://bob:{password.format(character)}@127.0.0.1:1/x"
    with pytest.raises((InvalidRequest, EndpointForbidden)) as refused:
        check_endpoint(endpoint, ())
    for part in ("Sup3r", "Secret", "99999", "port 0", "'"):
        assert part not in refused.value.message
    if refused.value.code == "invalid_endpoint":
        assert "%40 %3A %2F %23 %3F %25" in refused.value.message


@given(
    st.text("ab1@", max_size=3),
    st.sampled_from(["", "1", "443", "65535"]),
    st.sampled_from("/?#"),
    st.text("Ss3:@/?#", max_size=6),
)
def test_a_password_that_is_cut_is_refused(user: str, digits: str, cut: str, end: str) -> None:
    """httpx takes the user for the host, the digits for its port, and calls whoever that is with the rest as its path."""
    endpoint = f"http://{user}x:{digits}{cut}{end}@agents.example/x"
    with pytest.raises(InvalidRequest) as refused:
        check_endpoint(endpoint, ())
    assert refused.value.code == "invalid_endpoint"
    assert "%40 %3A %2F %23 %3F %25" in refused.value.message
    assert user + "x:" not in refused.value.message


@pytest.mark.parametrize(
    "endpoint",
    ["http://agent/", "https://agent.example:8443/v1?x=1", f"http://{PUBLIC}/", "http://[2606:4700:4700::1111]/",
     "http://agent/x@y?to=a@b", "http://u:p@agent/x%40y", "http://u:80%2Fp@agent:80/x", "http://[2606:4700:4700::1111]/x@y",
     "http://my_agent:80/", "http://10.example.org/", "http://b\u00fccher.example/"],
)  # fmt: skip
def test_what_a_call_may_reach_is_accepted(endpoint: str) -> None:
    check_endpoint(endpoint, ())


def test_allowed_networks_hold_for_registrations_too() -> None:
    check_endpoint("http://10.1.2.3/", ("10.1.0.0/16",))
    check_endpoint("http://localhost:80/", ("127.0.0.0/8",))
    with pytest.raises(EndpointForbidden):
        check_endpoint("http://10.2.2.3/", ("10.1.0.0/16",))


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
