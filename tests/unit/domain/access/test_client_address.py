"""Whose address counts, of those that proxies and clients have written."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.client_address import (
    client_address,
    forwarded_as_https,
    group_of,
    is_in,
    parsed_address,
)

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:aa::/48")]
PROXY = ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" \t192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:443", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8::1]:65535", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("localhost", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.02.7", None),
        ("3221225991", None),
        ("192.0.2.7:", None),
        ("192.0.2.7:http", None),
        ("192.0.2.7:123456", None),
        ("192.0.2.7/24", None),
        ("192.0.2.7 192.0.2.8", None),
        ("[192.0.2.7]", None),
        ("[2001:db8::1", None),
        ("2001:db8::1]", None),
        ("[2001:db8::1]443", None),
        ("[2001:db8::1]:", None),
        ("[]", None),
        ("fe80::1%eth0", None),
        ("[fe80::1%25eth0]:80", None),
        ('"[2001:db8::1]:4711"', None),
        ("for=192.0.2.7", None),
        ("1\u0660.0.0.1", None),
        ("1" * 100_000, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_entry_is_an_address_with_or_without_a_port(text: str, address: str | None) -> None:
    found = parsed_address(text)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("caller", "forwarded", "client"),
    [
        # Nobody is trusted who is not named.
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),
        ("2001:db8::1", ["198.51.100.9"], "2001:db8::1"),
        # One proxy, and what its client wrote before.
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["10.9.9.9, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["unknown, 198.51.100.9:4711"], "198.51.100.9"),
        # Several proxies.
        ("10.0.0.1", ["198.51.100.9, 10.0.0.3,10.0.0.2"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9", "[2001:db8:aa::2]:8443"], "198.51.100.9"),
        # Only proxies: a call of one of them.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        # What cannot be read ends the way.
        ("10.0.0.1", ["198.51.100.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.9,"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.9", ""], "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(
    caller: str, forwarded: list[str], client: str
) -> None:
    assert str(client_address(ip_address(caller), forwarded, TRUSTED)) == client


@given(
    written=st.text(max_size=40),
    client=st.ip_addresses().filter(lambda address: not is_in(address, TRUSTED)),
    proxies=st.lists(st.integers(0, 255).map(lambda number: f"10.0.1.{number}"), max_size=3),
)
def test_nothing_that_a_client_writes_makes_it_another(written: str, client: object, proxies: list[str]) -> None:
    honest = client_address(PROXY, [", ".join([str(client), *proxies])], TRUSTED)
    assert client_address(PROXY, [written, ", ".join([str(client), *proxies])], TRUSTED) == honest
    assert honest == parsed_address(str(client))


@pytest.mark.parametrize(
    ("caller", "protocols", "encrypted"),
    [
        ("10.0.0.1", ["https"], True),
        ("10.0.0.1", [" HTTPS "], True),
        ("10.0.0.1", ["wss"], True),
        ("10.0.0.1", ["https, https"], True),
        ("10.0.0.1", ["https", "http"], False),
        ("10.0.0.1", ["http,https"], False),
        ("10.0.0.1", ["http"], False),
        ("10.0.0.1", ["https,"], False),
        ("10.0.0.1", ["httpsx"], False),
        ("10.0.0.1", [], False),
        ("192.0.2.1", ["https"], False),
    ],
)
def test_only_a_trusted_proxy_says_that_a_call_was_encrypted(
    caller: str, protocols: list[str], encrypted: bool
) -> None:
    assert forwarded_as_https(ip_address(caller), protocols, TRUSTED) is encrypted


@pytest.mark.parametrize(
    ("address", "group"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::/64"), ("2001:db8::ffff:1", "2001:db8::/64")],
)
def test_addresses_of_one_household_are_one_client(address: str, group: str) -> None:
    assert group_of(ip_address(address)) == group
