"""Ports that are free, and the sentence about one that is not."""

from __future__ import annotations

import socket

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
    assert len(set(free_ports(10))) == 10
    assert 11_000 <= free_window(50) <= 29_950
