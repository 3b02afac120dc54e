"""How texts become values, addresses and placeholders."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

from forkserve.config import values
from forkserve.config.address import Address, parse_address
from forkserve.config.model import SocketOptions, WatcherOptions
from forkserve.config.placeholders import env_values, expand, names_in, sockets_for, sockets_in, unknown_names
from forkserve.suggest import nearest


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.integer, "-3", -3),
        (values.boolean, "YES", True),
        (values.boolean, "off", False),
        (values.seconds, "30", 30.0),
        (values.seconds, "500ms", 0.5),
        (values.seconds, "2h", 7200.0),
        (values.size, "10M", 10 * 1024 * 1024),
        (values.size, "64k", 65536),
        (values.octal, "022", 0o22),
        (values.octal, "0o660", 0o660),
        (values.octal, "660", 0o660),
        (values.optional_octal, "", None),
        (values.signal_name, "kill", signal.SIGKILL),
        (values.signal_name, "SIGUSR1", signal.SIGUSR1),
        (values.signal_name, "9", signal.SIGKILL),
        (values.signal_name, "SIGRTMIN+1", signal.SIGRTMIN + 1),
        (values.words, "a 'b c' \"d\"", ("a", "b c", "d")),
        (values.log_level, "WARN", "warning"),
        (values.socket_type, "dgram", socket.SOCK_DGRAM),
        (values.socket_type, "SOCK_STREAM", socket.SOCK_STREAM),
    ],
)
def test_a_text_becomes_its_value(parse: Any, text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (values.integer, "x", "expected an integer, got 'x'"),
        (values.number, "nan", "expected a finite number, got 'nan'"),
        (values.boolean, "maybe", "expected yes, true, on, 1, no, false, off or 0, got 'maybe'"),
        (values.seconds, "-1", "expected a duration such as 30, 500ms, 5m or 2h, got '-1'"),
        (values.size, "10X", "expected a size such as 4096, 64k, 10M or 1G, got '10X'"),
        (values.octal, "9", "expected an octal number such as 022 or 0660, got '9'"),
        (values.octal, "-1", "expected an octal number such as 022 or 0660, got '-1'"),
        (values.signal_name, "SIGNOPE", "expected a signal such as TERM, SIGUSR1, 15 or SIGRTMIN+1, got 'SIGNOPE'"),
        (values.signal_name, "0", "expected a signal such as TERM, SIGUSR1, 15 or SIGRTMIN+1, got '0'"),
        (values.signal_name, "SIGRTMIN+99", "expected a signal such as TERM, SIGUSR1, 15 or SIGRTMIN+1"),
        (values.family, "AF_X", "expected AF_INET, AF_INET6 or AF_UNIX, got 'AF_X'"),
    ],
)
def test_a_wrong_text_is_told_what_was_expected(parse: Any, text: str, expected: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert str(raised.value).startswith(expected)


def test_bounds_let_none_pass_and_name_the_bound() -> None:
    assert values.at_least(0)(-1) == "must be at least 0, got -1"
    assert values.at_least(0)(None) is None
    assert values.between(1, 3)(4) == "must be between 1 and 3, got 4"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("localhost:80", Address("localhost", 80)),
        (":8000", Address("0.0.0.0", 8000)),
        ("*:8000", Address("0.0.0.0", 8000)),
        ("8000", Address("0.0.0.0", 8000)),
        ("[::]:0", Address("::", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("tcp://1.2.3.4:5", Address("1.2.3.4", 5)),
        ("unix:/run/web.sock", Address(path="/run/web.sock")),
        ("unix:///run/web.sock", Address(path="/run/web.sock")),
        ("unix:relative.sock", Address(path="relative.sock")),
        ("unix:@web", Address(path="@web")),
        ("fd://3", Address(fd=3)),
    ],
)
def test_an_address_is_read_in_every_form(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", ":65536", "::1:80", "unix:", "unix:@", "fd://x", "a b:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|brackets|65535"):
        parse_address(text)


def test_a_unix_path_longer_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="107 bytes"):
        parse_address("unix:/" + "x" * 107)


def test_placeholders_know_two_spellings_and_no_case() -> None:
    text = "a --fd $(circus.sockets.Web-1) ((CIRCUS.wid)) ${circus.sockets.x} $(circus.sockets.web-1)"
    assert names_in(text) == ("sockets.web-1", "wid")
    assert sockets_in(text) == ("web-1",)
    expanded = expand(text, {"sockets.web-1": "3", "wid": "7"})
    assert expanded == "a --fd 3 7 ${circus.sockets.x} 3"


def test_an_unknown_placeholder_stays_as_it_is() -> None:
    assert expand("$(circus.nope) $(date)", {"wid": "1"}) == "$(circus.nope) $(date)"
    assert unknown_names("$(circus.nope) $(circus.wid) $(circus.env.X) $(circus.numprocesses)") == ("nope",)


def test_variables_are_found_in_any_case() -> None:
    assert expand("$(circus.env.home)", env_values({"HOME": "/root"})) == "/root"


def test_a_process_inherits_the_sockets_it_names_in_their_order() -> None:
    watcher = WatcherOptions(name="x", cmd="run $(circus.sockets.b)", args="$(circus.sockets.a)", use_sockets=True)
    assert sockets_for(watcher, ("a", "b", "c")) == ("b", "a")


def test_a_process_that_names_none_inherits_all_if_it_wants_sockets() -> None:
    assert sockets_for(WatcherOptions(name="x", cmd="run", use_sockets=True), ("a", "b")) == ("a", "b")
    assert sockets_for(WatcherOptions(name="x", cmd="run"), ("a", "b")) == ()


def test_the_nearest_name_is_offered_only_if_it_is_near() -> None:
    assert nearest("numproceses", ["numprocesses", "name"]) == "; did you mean 'numprocesses'?"
    assert nearest("zebra", ["numprocesses"]) == ""


def test_options_of_equal_values_are_equal() -> None:
    assert SocketOptions(name="web") == SocketOptions(name="web", port=8080)
