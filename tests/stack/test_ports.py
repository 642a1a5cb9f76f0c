"""The owner of a port, read from recorded /proc files and from a real listener."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from autoregistry.stack.ports import Listener, free_port, listeners, process_name

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"


def _proc(tmp_path: Path, table: str, address: str, state: str = "0A") -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(HEAD + "\n")
    row = f"   0: {address}:1388 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0 0 4242 1"
    (tmp_path / "net" / table).write_text(f"{HEAD}\n{row}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("table", "address", "state", "expected"),
    [
        pytest.param("tcp", "0100007F", "0A", "127.0.0.1", id="127.0.0.1"),
        pytest.param("tcp", "00000000", "0A", "127.0.0.1", id="all of IPv4"),
        pytest.param("tcp6", "0" * 24 + "01000000", "0A", "::1", id="::1, as AirPlay"),
        pytest.param("tcp6", "0" * 32, "0A", "127.0.0.1 and ::1", id="all addresses"),
        pytest.param("tcp", "0200000A", "0A", "", id="another address"),
        pytest.param("tcp", "0100007F", "01", "", id="connection, not a listener"),
    ],
)
def test_listeners_on_both_loopback_addresses_are_found(
    tmp_path: Path, table: str, address: str, state: str, expected: str
) -> None:
    result = listeners(5000, _proc(tmp_path, table, address, state))

    assert [Listener(expected, "4242")] * bool(expected) == result


def test_process_is_found_by_its_socket(tmp_path: Path) -> None:
    folder = tmp_path / "77"
    (folder / "fd").mkdir(parents=True)
    (folder / "fd/3").symlink_to("socket:[4242]")
    (folder / "comm").write_text("nginx\n")

    assert process_name(Listener("::1", "4242"), 5000, tmp_path) == "nginx (process 77)"
    assert process_name(Listener("::1", "1"), 5000, tmp_path) == "a process of another user"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_real_listener_is_found_and_its_port_is_not_offered(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family)) as mine:
        mine.bind((address, 0))
        mine.listen()
        port = mine.getsockname()[1]
        (listener,) = listeners(port)

        assert listener.address == address
        assert f"(process {os.getpid()})" in process_name(listener, port)
        assert free_port(port, {port + 1: "a container"}) > port + 1
        # Without /proc, an accepted connection counts.
        assert [result.address for result in listeners(port, Path("/nowhere"))] == [address]
