"""Sockets are bound all or none, kept through reloads, and leave no file that is ours."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import AddressFamily, SocketKind

import pytest

from forkserve.config.model import SocketOptions
from forkserve.errors import BindError, ConfigError
from forkserve.socketpool import SocketChange, SocketPool
from forkserve.supervision.reload.retirement import Retirement
from forkserve.supervision.state.sockets import (
    pool_from_data,
    pool_to_data,
    retirement_from_data,
    retirement_to_data,
)
from forkserve.unix.listeners import adopt, resolve

pytestmark = pytest.mark.usefixtures("nothing_left")
with_ipv6 = pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def tcp(name: str = "web", host: str = "127.0.0.1", port: int = 0, **more: object) -> SocketOptions:
    return SocketOptions(name=name, host=host, port=port, **more)  # type: ignore[arg-type]


def unix(path: Path | str, name: str = "app", **more: object) -> SocketOptions:
    return SocketOptions(name=name, family=AddressFamily.AF_UNIX, path=str(path), **more)  # type: ignore[arg-type]


def port_of(pool: SocketPool, name: str = "web") -> int:
    return int(pool[name].socket.getsockname()[1])


def refusal_of(*sockets: SocketOptions) -> str:
    with pytest.raises(BindError) as caught:
        SocketPool.open(sockets)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def pool() -> Iterator[SocketPool]:
    """One TCP socket on a port of the kernel's choice."""
    pool = SocketPool.open([tcp()])
    yield pool
    pool.close()


def test_a_listener_is_ready_for_every_server(pool: SocketPool) -> None:
    sock = pool["web"].socket

    assert os.get_blocking(sock.fileno())
    assert not os.get_inheritable(sock.fileno())
    with socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_port_0_is_reported_with_the_real_port(pool: SocketPool) -> None:
    assert pool["web"].address == f"127.0.0.1:{port_of(pool)}"
    assert port_of(pool) != 0


def test_names_know_no_case_and_keep_their_order() -> None:
    pool = SocketPool.open([tcp("Web"), tcp("admin")])
    fds = pool.fds(["ADMIN", "web"])

    assert "wEb" in pool
    assert pool.names == ("Web", "admin")
    assert fds == {"ADMIN": pool["admin"].fd, "web": pool["web"].fd}
    with pytest.raises(KeyError):
        pool.fds(["other"])
    pool.close()


@pytest.mark.parametrize(("option", "handed_in", "blocks"), [
    (None, None, True), (True, None, True), (False, None, False),
    (None, True, True), (None, False, False), (True, False, True), (False, True, False),
])  # fmt: skip
def test_a_socket_blocks_as_it_was_made_unless_told_otherwise(
    option: bool | None, handed_in: bool | None, blocks: bool
) -> None:
    given = socket.create_server(("127.0.0.1", 0)) if handed_in is not None else None
    if given is not None:
        given.setblocking(handed_in is True)
    options = tcp(blocking=option, fd=None if given is None else given.detach())
    pool = SocketPool.open([options])
    found = os.get_blocking(pool["web"].fd)
    pool.close()

    assert found is blocks


@with_ipv6
def test_any_ipv6_address_takes_ipv4_too() -> None:
    pool = SocketPool.open([tcp(host="::")])
    with socket.create_connection(("127.0.0.1", port_of(pool))):
        accepted, _ = pool["web"].socket.accept()
        accepted.close()
    address = pool["web"].address
    pool.close()

    assert address.startswith("[::]:")


@with_ipv6
def test_any_ipv6_address_leaves_ipv4_to_the_socket_that_has_its_port(pool: SocketPool) -> None:
    port = port_of(pool)
    pool.close()
    both = SocketPool.open([tcp("four", "0.0.0.0", port), tcp("six", "::", port)])
    only = both["six"].socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    both.close()

    assert only == 1


def test_datagram_and_sequenced_sockets_are_bound_too(tmp_path: Path) -> None:
    pool = SocketPool.open(
        [
            tcp("udp", type=SocketKind.SOCK_DGRAM),
            unix(tmp_path / "d", "log", type=SocketKind.SOCK_DGRAM),
            unix(tmp_path / "s", "seq", type=SocketKind.SOCK_SEQPACKET),
        ]
    )
    kinds = [listener.socket.type for listener in pool]
    pool.close()

    assert kinds == [SocketKind.SOCK_DGRAM, SocketKind.SOCK_DGRAM, SocketKind.SOCK_SEQPACKET]
    assert list(tmp_path.iterdir()) == []


def test_an_abstract_socket_has_no_file() -> None:
    pool = SocketPool.open([unix(f"@forkserve-test-{os.getpid()}")])
    address = pool["app"].address
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0forkserve-test-{os.getpid()}")
    pool.close()

    assert address == f"unix:@forkserve-test-{os.getpid()}"


@pytest.mark.parametrize(("options", "mode"), [({"mode": 0o660}, 0o660), ({"umask": 0o117}, 0o660), ({}, 0o755)])
def test_a_socket_file_has_its_mode(tmp_path: Path, options: dict[str, int], mode: int) -> None:
    previous = os.umask(0o022)
    pool = SocketPool.open([unix(tmp_path / "app.sock", **options)])
    found = stat.S_IMODE((tmp_path / "app.sock").stat().st_mode)
    umask = os.umask(previous)
    pool.close()

    assert found == mode
    assert umask == 0o022


@as_root
def test_a_socket_file_has_its_owner_and_group(tmp_path: Path) -> None:
    pool = SocketPool.open([unix(tmp_path / "app.sock", owner="nobody", group="4")])
    found = (tmp_path / "app.sock").stat()
    pool.close()

    assert (found.st_uid, found.st_gid) == (65534, 4)


def test_an_unknown_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-user"):
        SocketPool.open([unix(tmp_path / "app.sock", owner="no-such-user")])

    assert list(tmp_path.iterdir()) == []


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    pool = SocketPool.open([unix(path)])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    pool.close()

    assert not path.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_file_that_was_hidden_by_a_killed_program_goes(tmp_path: Path, kind: socket.SocketKind) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, lives, another = (tmp_path / name for name in (f".app.sock.{gone.pid}", ".app.sock.1", ".app.sock.x"))
    another.touch()
    held = []
    for path in (dead, lives):
        held.append(socket.socket(socket.AF_UNIX, kind))
        held[-1].bind(str(path))
    held[0].close()
    pool = SocketPool.open([unix(tmp_path / "app.sock", type=kind)])
    left = set(tmp_path.iterdir())
    pool.close()
    held[1].close()

    assert left == {lives, another, tmp_path / "app.sock"}


def test_a_file_that_is_hidden_by_a_living_program_stays(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    pool = SocketPool.open([])
    change(pool, unix(path))
    hidden = set(tmp_path.iterdir())
    SocketPool.open([unix(path)]).close()
    left = set(tmp_path.iterdir())
    pool.close()

    assert len(hidden) == 1
    assert left == hidden


def test_a_file_on_which_somebody_listens_is_taken_only_with_replace(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    first = SocketPool.open([unix(path)])

    assert "another program listens there" in refusal_of(unix(path))
    second = SocketPool.open([unix(path, replace=True)])
    first.close()
    assert path.exists(), "it is the second's"
    second.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")

    assert "no socket" in refusal_of(unix(path, replace=True))
    assert path.read_text() == "data"


def test_a_port_in_use_names_the_process_that_has_it(pool: SocketPool) -> None:
    text = refusal_of(tcp("other", port=port_of(pool)))

    assert text.startswith(f"socket other: cannot bind 127.0.0.1:{port_of(pool)}: address already in use by ")
    assert f"(pid {os.getpid()})" in text
    assert text.endswith("choose another port")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (tcp(host="192.0.2.1"), "say 0.0.0.0"),
        (tcp(host="no-such-host.invalid"), "cannot resolve host"),
        (tcp(interface="no-such-if"), "interface = no-such-if"),
        (tcp(proto="no-such-proto"), "unknown protocol"),
        (unix("/no/such/folder/app.sock"), "make the directory /no/such/folder first"),
        (SocketOptions(name="web", family=AddressFamily.AF_UNIX), "needs a path"),
        (tcp(fd=999), "descriptor 999 is not open here"),
        (tcp(fd=0), "descriptor 0 is no socket"),
    ],
)
def test_what_cannot_be_bound_is_said_with_its_cure(options: SocketOptions, words: str) -> None:
    text = refusal_of(options)

    assert text.startswith(f"socket {options.name}: ")
    assert words in text


def test_one_failure_leaves_none_bound(tmp_path: Path) -> None:
    refusal_of(unix(tmp_path / "app.sock"), tcp(host="192.0.2.1"))

    assert list(tmp_path.iterdir()) == []


def test_two_sockets_of_one_name_are_refused() -> None:
    assert "two sockets have this name" in refusal_of(tcp("web"), tcp("WEB"))


def test_a_descriptor_is_taken_over_and_its_file_left_alone(tmp_path: Path) -> None:
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(str(tmp_path / "theirs"))
    pool = SocketPool.open([SocketOptions(name="web", fd=theirs.detach())])
    address = pool["web"].address
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "theirs"))
    pool.close()

    assert address == f"unix:{tmp_path}/theirs"
    assert (tmp_path / "theirs").exists()


def test_a_socket_without_an_address_cannot_be_taken_over() -> None:
    with socket.socket() as unbound:
        with pytest.raises(BindError, match="without an address"):
            adopt(tcp(), unbound.fileno())

        assert unbound.fileno() != -1


def test_sockets_handed_in_go_by_name_and_then_in_order() -> None:
    given = {name: socket.create_server(("127.0.0.1", 0)) for name in ("forkserve.socket", "ADMIN")}
    ports = {name: sock.getsockname()[1] for name, sock in given.items()}
    handed_in = {name: sock.detach() for name, sock in given.items()}
    pool = SocketPool.open([tcp("web"), tcp("admin"), tcp("extra")], handed_in)
    found = {name: port_of(pool, name) for name in ("web", "admin")}
    pool.close()

    assert found == {"web": ports["forkserve.socket"], "admin": ports["ADMIN"]}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("web",), {"web": "web"}),
        (("WEB.socket",), {"web": "WEB.socket"}),
        (("metrics",), {}),
        (("metrics", "web"), {"web": "web"}),
        (("unknown", "unknown-4"), {"web": "unknown", "admin": "unknown-4"}),
        (("app.socket", "app.socket-4", "admin"), {"web": "app.socket", "admin": "admin"}),
        (("web", "web.socket"), {"web": "web", "admin": "web.socket"}),
    ],
    ids=str,
)
def test_a_socket_takes_the_descriptor_of_its_name_and_no_other(
    given: tuple[str, ...], taken: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in given}
    ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
    fds = {name: sock.detach() for name, sock in sockets.items()}
    pool = SocketPool.open([tcp("web"), tcp("admin")], fds)
    found = {name: port_of(pool, name) for name in pool.names}
    pool.close()

    assert {name: port for name, port in found.items() if port in ports.values()} == {
        name: ports[source] for name, source in taken.items()
    }
    for name in set(given) - set(taken.values()):
        assert f"descriptor {fds[name]} ({name.lower()}) of LISTEN_FDS matches no socket" in caplog.text
        os.close(fds[name])


def prepared(pool: SocketPool, *sockets: SocketOptions) -> SocketChange:
    return pool.prepare(sockets, {each.name.lower(): resolve(each) for each in sockets})


def change(pool: SocketPool, *sockets: SocketOptions) -> SocketChange:
    made = prepared(pool, *sockets)
    pool.commit(made)
    return made


def connected(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        client.settimeout(0.2)
        try:
            client.connect(address)
        except OSError:
            return False
        return True


def test_a_reload_keeps_a_socket_with_its_queue(pool: SocketPool) -> None:
    with socket.create_connection(pool["web"].socket.getsockname()):
        before = pool["web"].fd
        made = change(pool, tcp(backlog=7, blocking=True), tcp("more"))
        accepted, _ = pool["web"].socket.accept()
        accepted.close()

    assert made.rebound == {"more"}
    assert made.retired == pool.retired == frozenset()
    assert pool["web"].fd == before
    assert os.get_blocking(before)
    assert pool.names == ("web", "more")


def test_a_socket_that_is_renamed_keeps_its_queue(pool: SocketPool) -> None:
    with socket.create_connection(pool["web"].socket.getsockname()):
        made = change(pool, tcp("http"))
        accepted, _ = pool["http"].socket.accept()
        accepted.close()

    assert made.opened == pool.retired == frozenset()
    assert pool.names == ("http",)


def test_names_that_are_exchanged_lead_to_each_others_queues(tmp_path: Path) -> None:
    pool = SocketPool.open([unix(tmp_path / "a", "a"), unix(tmp_path / "b", "b")])
    before = pool.fds(["a", "b"])
    made = change(pool, unix(tmp_path / "a", "b"), unix(tmp_path / "b", "a"))
    after = pool.fds(["a", "b"])
    pool.close()

    assert made.rebound == {"a", "b"}
    assert made.opened == frozenset()
    assert after == {"a": before["b"], "b": before["a"]}


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_sharing_of_the_port_is_switched_with_the_same_queue(before: bool, after: bool) -> None:
    pool = SocketPool.open([tcp(so_reuseport=before)])
    made = change(pool, tcp(so_reuseport=after))
    shared = pool["web"].socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    pool.close()

    assert made.rebound == made.opened == frozenset()
    assert made.adjusted == {"web": ("so_reuseport",)}
    assert shared == after


def test_a_retired_queue_gets_its_name_again(pool: SocketPool) -> None:
    address = pool["web"].socket.getsockname()
    number = pool.numbers["web"]
    made = change(pool, tcp(host="127.0.0.2", port=address[1]))
    pool.seal(number)
    sealed = connected(address)
    pool.take_back(made)

    assert not sealed
    assert connected(address)
    assert pool.numbers["web"] == number
    assert pool.retired == made.opened
    pool.discard(*pool.retired)


def test_a_later_reload_takes_over_what_is_retired_and_not_yet_closed(pool: SocketPool) -> None:
    address = pool["web"].socket.getsockname()
    number = pool.numbers["web"]
    change(pool, tcp())
    pool.close()
    pool = SocketPool.open([tcp(port=address[1])])
    number = pool.numbers["web"]
    change(pool, tcp(port=0))
    pool.seal(number)
    made = change(pool, tcp("other", port=address[1]))
    found = (connected(address), pool.numbers["other"])
    pool.close()

    assert found == (True, number)
    assert made.opened == frozenset()


def test_a_sealed_queue_gives_what_it_has_and_gets_no_more(pool: SocketPool) -> None:
    address = pool["web"].socket.getsockname()
    with socket.create_connection(address) as client:
        pool.seal(pool.numbers["web"])
        waiting = pool["web"].is_waiting
        accepted, _ = pool["web"].socket.accept()
        with accepted:
            client.sendall(b"x")
            select.select([accepted], [], [], 10)
            received = accepted.recv(1)

    assert waiting
    assert received == b"x"
    assert not pool["web"].is_waiting
    assert not connected(address)


def test_a_socket_file_that_a_cleaner_has_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    pool = SocketPool.open([unix(path)])
    path.unlink()
    made = change(pool, unix(path))
    pool.show()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    pool.discard(*pool.retired)
    is_there = path.exists()
    pool.close()

    assert made.rebound == {"app"}
    assert is_there, "the file belongs to the new socket"


def test_a_socket_of_a_change_is_found_by_nobody_until_it_is_shown(pool: SocketPool, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    change(pool, tcp(host="127.0.0.2"), unix(path))
    address = pool["web"].socket.getsockname()
    found = connected(address), path.exists()
    named = pool["app"].address
    pool.show()
    shown = connected(address), path.exists()
    pool.close()

    assert found == (False, False)
    assert named == f"unix:{path}"
    assert shown == (True, True)
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_socket_takes_no_place_of_a_file_that_was_made_meanwhile(
    pool: SocketPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.sock"
    change(pool, tcp(), unix(path))
    path.write_text("of somebody else")
    pool.show()
    pool.close()

    assert "another program has made a file there meanwhile" in caplog.text
    assert path.read_text() == "of somebody else"
    assert list(tmp_path.iterdir()) == [path]


@with_ipv6
def test_ipv4_stays_when_the_socket_that_had_it_goes(pool: SocketPool) -> None:
    port = port_of(pool)
    pool.close()
    pool = SocketPool.open([tcp("six", "::", port), tcp("four", "0.0.0.0", port)])
    made = change(pool, tcp("six", "::", port))
    for number in pool.retired:
        pool.discard(number)
    both = [connected((host, port)) for host in ("127.0.0.1", "::1")]
    pool.close()

    assert made.rebound == {"six"}
    assert both[0]


def test_a_socket_that_is_released_is_bound_again_at_its_address(pool: SocketPool) -> None:
    address = pool["web"].socket.getsockname()
    pool.release(pool.numbers["web"])
    refused = not connected(address)
    made = change(pool, tcp(keep=False))

    assert refused
    assert made.rebound == made.opened == frozenset()
    assert pool.fd(pool.numbers["web"]) >= 0
    assert connected(address)


def test_a_reload_that_fails_leaves_all_as_it_was(pool: SocketPool, tmp_path: Path) -> None:
    before = list(pool)
    with pytest.raises(BindError):
        prepared(pool, tcp("web", "::"), unix(tmp_path / "app.sock"), tcp("bad", "192.0.2.1"))

    assert list(pool) == before
    assert list(tmp_path.iterdir()) == []
    with socket.create_connection(pool["web"].socket.getsockname()):
        pass


def test_a_reload_can_be_abandoned(pool: SocketPool) -> None:
    before = list(pool)
    pool.abandon(prepared(pool, tcp("other", "127.0.0.2")))

    assert list(pool) == before


def test_a_port_is_bound_anew_beside_the_queue_that_drains(pool: SocketPool) -> None:
    port = port_of(pool)
    pool.close()
    pool = SocketPool.open([tcp(host="0.0.0.0", port=port)])
    with socket.create_connection(("127.0.0.1", port)):
        change(pool, tcp(host="127.0.0.1", port=port))
        (old,) = pool.retired
        accepted, _ = pool.listener(old).socket.accept()
        accepted.close()
        pool.discard(old)
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = pool["web"].socket.accept()
        accepted.close()
    pool.close()


def test_a_socket_file_changes_its_mode_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    pool = SocketPool.open([unix(path, mode=0o600)])
    fd = pool["app"].fd
    change(pool, unix(path, mode=0o666))
    mode = stat.S_IMODE(path.stat().st_mode)
    kept = pool["app"].fd == fd
    pool.close()

    assert mode == 0o666
    assert kept


def test_a_socket_removed_by_a_reload_is_handed_back_and_takes_its_file_along(tmp_path: Path) -> None:
    pool = SocketPool.open([unix(tmp_path / "app.sock")])
    change(pool)
    pool.discard(*pool.retired)

    assert len(pool) == 0
    assert list(tmp_path.iterdir()) == []


def test_reuseport_lets_another_process_share_the_port() -> None:
    pool = SocketPool.open([tcp(so_reuseport=True)])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        assert other.connect_ex(("127.0.0.1", port_of(pool))) == 0
    with socket.socket() as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(("127.0.0.1", port_of(pool)))
    pool.close()


@pytest.mark.skipif(not os.path.exists("/sys/class/net/lo"), reason="no network interface can be seen here")
def test_a_socket_is_bound_to_its_interface() -> None:
    try:
        pool = SocketPool.open([tcp(host="0.0.0.0", interface="lo")])
    except BindError as error:
        if error.exit_code == 77:
            pytest.skip(f"binding to an interface is not allowed here ({errno.errorcode[errno.EPERM]})")
        raise
    device = pool["web"].socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    pool.close()

    assert device.rstrip(b"\0") == b"lo"


def test_the_pool_is_written_as_data_and_read_back_with_its_queues(tmp_path: Path) -> None:
    pool = SocketPool.open([tcp(backlog=5), unix(tmp_path / "a", mode=0o600), tcp("brief", keep=False)])
    change(pool, tcp("http", "127.0.0.2"), unix(tmp_path / "a", mode=0o600), tcp("brief", keep=False))
    pool.show()
    retirement = Retirement(pool, list, lambda _event: None)
    retirement.seal(12.5)
    retirement.held.add(4711)
    retirement.origins[1] = frozenset({("web", "web")})
    pool.release(pool.numbers["brief"])
    text = json.dumps([pool_to_data(pool), retirement_to_data(retirement)])
    queues, pool.queues = pool.queues, {}
    for each in queues.values():
        each.socket.detach()
    of_pool, of_retirement = json.loads(text)
    pool = pool_from_data(of_pool)
    retirement = Retirement(pool, list, lambda _event: None)
    retirement_from_data(of_retirement, retirement)
    again = json.dumps([pool_to_data(pool), retirement_to_data(retirement)])
    with socket.create_connection(pool["http"].socket.getsockname()):
        pool["http"].socket.accept()[0].close()
    reopened = pool.fd(pool.numbers["brief"])
    retirement.close_unread(frozenset)
    left = pool.retired
    pool.close()

    assert again == text
    assert reopened >= 0
    assert left == frozenset()
    assert list(tmp_path.iterdir()) == []
