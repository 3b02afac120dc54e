"""Who the client is behind proxies."""

from __future__ import annotations

import pytest

from forkserve.serving.http.forwarded import (
    ClientSide,
    ClientSides,
    ForwardedFields,
    Style,
    TrustedProxies,
    client_side,
)

TRUSTED = TrustedProxies(["10.0.0.0/8", "::1", "192.0.2.1"])
ALL = frozenset({"for", "proto", "host", "port"})


def x(peer: str | None = "10.0.0.1", trusted: TrustedProxies = TRUSTED, **fields: str) -> ClientSide:
    return client_side(ForwardedFields(**fields), peer, trusted, Style.X_FORWARDED, ALL)


def rfc(value: str, peer: str | None = "10.0.0.1") -> ClientSide:
    return client_side(ForwardedFields(forwarded=value), peer, TRUSTED, Style.FORWARDED, ALL)


def test_untrusted_peer_is_not_believed() -> None:
    assert x("8.8.8.8", x_for="1.2.3.4", x_proto="https", x_host="h") == ClientSide()
    assert rfc("for=1.2.3.4", "8.8.8.8") == ClientSide()


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.9", "1.2.3.4"),
        ("10.0.0.7, 10.0.0.9", "10.0.0.7"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]:443", "fe80::1%eth0"),
        ("1.2.3.4%eth0", None),
        ("fe80::1%", None),
        ("evil, 10.0.0.9", "10.0.0.9"),
        ("evil", None),
        ("", None),
        ("1.2.3.4, ", None),
        ("999.1.1.1", None),
    ],
)
def test_first_untrusted_hop_from_the_right_is_the_client(chain: str, client: str | None) -> None:
    assert x(x_for=chain).address == client


def test_scheme_host_and_port_come_from_the_outermost_trusted_proxy() -> None:
    side = x(x_for="1.2.3.4", x_proto="https", x_host="example.com:8443")
    assert side == ClientSide("1.2.3.4", None, "https", "example.com:8443", 8443)
    assert x(x_for="1.2.3.4, 10.0.0.2", x_proto="ftp, https, http").scheme == "https"
    assert x(x_for="1.2.3.4", x_proto="http, https").scheme == "https"
    assert x(x_proto="wss", x_port="8443").host_port == 8443


@pytest.mark.parametrize("host", ["a/b", "a,b@c", "u@h", "", "a b", "ā", "a\r\nX: y"])
def test_bad_forwarded_host_is_ignored(host: str) -> None:
    assert x(x_host=host).host is None


@pytest.mark.parametrize("port", ["x", "-1", "0", "99999", "\u0665", "8_0", ""])
def test_bad_forwarded_port_is_ignored(port: str) -> None:
    assert x(x_port=port).host_port is None


def test_unix_peers_and_everyone_can_be_trusted() -> None:
    assert x(None, x_for="1.2.3.4").address is None
    assert x(None, TrustedProxies(["unix"]), x_for="1.2.3.4").address == "1.2.3.4"
    assert x("8.8.8.8", TrustedProxies(["*"]), x_for="6.6.6.6, 1.2.3.4").address == "6.6.6.6"
    assert TrustedProxies(["10.0.0.0/8"]).trusts("::ffff:10.1.1.1")


@pytest.mark.parametrize("item", ["nonsense", "10.0.0.0/99", "a.example"])
def test_trusted_list_with_nonsense_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        TrustedProxies([item])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=1.2.3.4;proto=https;host=h", ClientSide("1.2.3.4", None, "https", "h", None)),
        ('For="[2001:db8::1]:4711"', ClientSide("2001:db8::1", 4711)),
        ("for=6.6.6.6, for=1.2.3.4, for=10.0.0.2;proto=https", ClientSide("1.2.3.4", None, "https")),
        ("for=unknown", ClientSide()),
        ("for=_hidden, for=10.0.0.2", ClientSide("10.0.0.2")),
        ('for=6.6.6.6, for="', ClientSide()),
        ("for=1.2.3.4;for=6.6.6.6", ClientSide()),
        ('for="1.2.3.4\\"', ClientSide()),
        ("proto=https", ClientSide(scheme="https")),
        ("", ClientSide()),
    ],
)
def test_forwarded_is_read_as_rfc_7239_says(value: str, expected: ClientSide) -> None:
    assert rfc(value) == expected


@pytest.mark.parametrize(
    ("believed", "expected"),
    [
        ({"for", "proto"}, ClientSide("1.2.3.4", None, "https")),
        ({"for"}, ClientSide("1.2.3.4")),
        # Whoever is not walked to says nothing: only the nearest proxy is heard.
        ({"proto"}, ClientSide(scheme="http")),
        ({"host", "port"}, ClientSide(host="near", host_port=9)),
        (set(), ClientSide()),
    ],
)
def test_only_what_proxies_are_known_to_set_is_believed(believed: set[str], expected: ClientSide) -> None:
    fields = ForwardedFields("1.2.3.4, 10.0.0.2", "https, http", "far:7, near", "8, 9")
    assert client_side(fields, "10.0.0.1", TRUSTED, Style.X_FORWARDED, frozenset(believed)) == expected


def test_host_of_forwarded_is_not_believed_by_default() -> None:
    fields = ForwardedFields(forwarded="for=1.2.3.4;proto=https;host=evil")
    assert client_side(fields, "10.0.0.1", TRUSTED, Style.FORWARDED) == ClientSide("1.2.3.4", None, "https")
    assert client_side(fields, "10.0.0.1", TRUSTED, Style.FORWARDED, frozenset({"host"})) == ClientSide(host="evil")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a", "a"),
        ("a:8", "a"),
        ("a:", "a"),
        ("[::1]", "[::1]"),
        ("[::1]:8", "[::1]"),
        ("[::1]:", "[::1]"),
        (None, None),
    ],
)
def test_name_of_a_host_is_never_empty(host: str | None, name: str | None) -> None:
    assert ClientSide(host=host, host_port=8443).name == name


def test_only_the_configured_style_counts() -> None:
    assert x(forwarded="for=6.6.6.6") == ClientSide()
    fields = ForwardedFields(x_for="6.6.6.6")
    assert client_side(fields, "10.0.0.1", TRUSTED, Style.FORWARDED) == ClientSide()


def test_what_was_said_before_means_the_same_and_is_bounded() -> None:
    sides = ClientSides(TRUSTED, Style.X_FORWARDED)
    for number in range(3000):
        fields = ForwardedFields(x_for=f"1.2.{number >> 8}.{number & 255}", x_proto="https")
        for peer in ("10.0.0.1", "8.8.8.8"):
            for _ in range(2):
                assert sides.of(fields, peer) == client_side(fields, peer, TRUSTED, Style.X_FORWARDED)
    assert len(sides._known) <= 1024
    long = ForwardedFields(x_for=", ".join(["1.2.3.4"] * 60))
    assert sides.of(long, "10.0.0.1").address == "1.2.3.4"
    assert (long, "10.0.0.1") not in sides._known
