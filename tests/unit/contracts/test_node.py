"""What a person reads when there is no node."""

from __future__ import annotations

import socket

import pytest

from contracts.chain import Chain
from rexis.protocol.errors import ChainError, UnavailableError


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_connect_says_that_nothing_answers_and_hides_the_url() -> None:
    port = _closed_port()
    with pytest.raises(UnavailableError) as caught:
        Chain.connect(f"http://user:pass@127.0.0.1:{port}/v3/provider-key?token=secret", timeout_s=2)
    assert f"127.0.0.1:{port}" in str(caught.value)
    for secret in ("pass", "provider-key", "secret"):
        assert secret not in str(caught.value)


def test_connect_times_out_on_a_node_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError):
            Chain.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ftp://127.0.0.1", "ws://127.0.0.1:8545", "file:///tmp/ipc"])
def test_connect_refuses_what_is_not_an_http_url(url: str) -> None:
    with pytest.raises(ChainError):
        Chain.connect(url)
