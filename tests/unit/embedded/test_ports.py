"""Ports that are free, and the sentence about one that is not."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.ports import free_ports, free_window, require_free


def test_a_taken_port_is_named_with_the_variable_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"Port {port} .*ARAGORA_HTTP_PORT"):
            require_free("127.0.0.1", port, "ARAGORA_HTTP_PORT")
        assert port not in free_ports(5)
    require_free("127.0.0.1", port, "ARAGORA_HTTP_PORT")


def test_free_ports_differ_and_are_no_local_ends_of_connections() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = free_ports(1_000)
    assert len(set(found)) == 1_000
    assert max(found) < first
    assert free_window(50) + 50 <= first


def test_more_ports_than_are_free_is_a_sentence() -> None:
    with pytest.raises(EmbeddedError, match="No 20000 free ports between 11000 and 30000; stop"):
        free_ports(20_000)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("203.0.113.5", "203.0.113.5 is not an address of this machine; set ARAGORA_HTTP_HOST to one that is"),
        ("198.51.100.7", "not an address of this machine"),
        ("no-such-host.invalid", "'no-such-host.invalid' is no IPv4 address and no name of one; set ARAGORA_HTTP_HOST"),
        ("http://127.0.0.1", "is no IPv4 address"),
        ("::1", "is no IPv4 address"),
        ("a" * 70, "is no IPv4 address"),
    ],
)
def test_an_address_that_cannot_be_bound_is_not_called_a_taken_port(host: str, said: str) -> None:
    with pytest.raises(EmbeddedError, match=re.escape(said)) as refused:
        require_free(host, 18_080, "ARAGORA_HTTP_PORT")
    assert "taken" not in str(refused.value)
