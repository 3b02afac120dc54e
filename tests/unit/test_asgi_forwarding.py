"""What proxies say, in a scope."""

from __future__ import annotations

from typing import Any

import pytest

from forkserve.serving.asgi.forwarding import AsgiForwarding, forwarded_fields
from forkserve.serving.http.forwarded import Style, TrustedProxies

ALL = frozenset({"for", "proto", "host", "port"})
SERVER = ("10.0.0.1", 8000)


def applied(
    *headers: tuple[bytes, bytes],
    style: Style = Style.X_FORWARDED,
    peer: str = "127.0.0.1",
    server: tuple[str, int | None] = SERVER,
) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "client": (peer, 4242),
        "server": server,
        "scheme": "http",
        "headers": [(b"host", b"inner"), *headers],
    }
    fields = forwarded_fields(scope["headers"])
    if fields is not None:
        AsgiForwarding(TrustedProxies(["127.0.0.1"]), style, ALL).apply(scope, fields, peer)
    return scope


def test_a_request_without_such_fields_is_left_alone() -> None:
    assert forwarded_fields([(b"host", b"a"), (b"x-other", b"b")]) is None


def test_the_client_the_scheme_and_the_host_are_those_of_the_outside() -> None:
    scope = applied(
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"example.org:8443"),
    )

    assert scope["client"] == ("192.0.2.1", 0)
    assert scope["scheme"] == "https"
    assert scope["server"] == ("example.org", 8443)
    assert (b"host", b"example.org:8443") in scope["headers"]


def test_the_other_style_is_read_when_it_is_the_one_agreed() -> None:
    scope = applied((b"forwarded", b'for="[2001:db8::1]:77";proto=https'), style=Style.FORWARDED)

    assert scope["client"] == ("2001:db8::1", 77)
    assert scope["server"] == ("10.0.0.1", 443)


@pytest.mark.parametrize(
    ("host", "server"), [(b"[::1]", ("[::1]", 9)), (b"example.org", ("example.org", 9)), (b"a:8", ("a", 9))]
)
def test_a_port_beside_the_host_leaves_the_name_whole(host: bytes, server: tuple[str, int]) -> None:
    assert applied((b"x-forwarded-host", host), (b"x-forwarded-port", b"9"))["server"] == server


def test_the_path_of_a_unix_socket_has_no_port() -> None:
    path = ("/run/web.sock", None)

    assert applied((b"x-forwarded-proto", b"https"), server=path)["server"] == path
    assert applied((b"x-forwarded-host", b"shop"), server=path)["server"] == ("shop", 80)


def test_a_stranger_is_not_believed() -> None:
    scope = applied((b"x-forwarded-for", b"6.6.6.6"), peer="192.0.2.9")

    assert scope["client"] == ("192.0.2.9", 4242)
