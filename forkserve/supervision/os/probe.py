"""Asks one process, and no other, whether it serves. It may block, so it runs in a fork (`supervision.os.forkedcall`).

Theory of operation. An answer at an address proves nothing: the predecessor may give it, or a sibling. So the sockets
of the process and of its descendants are looked up by their inodes: /proc/PID/fd, and /proc/PID/net/tcp, tcp6 and unix
(proc_pid_net(5)). A listener must belong to the process, and not be shared with the master. If it is shared, http://
connects again and again until the process itself has accepted, which the inode of the other end shows before a byte is
sent.

Rules: returns "" or the reason why not, as text; raises only what kills the helper.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forkserve.config.probes import Probe, ProbeKind
from forkserve.supervision.os.proc import relations

__all__ = ["TIMEOUT", "ask"]

TIMEOUT = 5.0
"""Seconds for one probe."""
TRIES = 50
"""Connections that others may accept before the next probe."""
ACCEPTED = 1.0
"""Seconds until a connection must be accepted."""
_LISTEN = "0A"
LONGEST_HEAD = 65536
"""Bytes of interim answers and of one status line."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_INTERIM = frozenset(range(100, 200)) - {101}
_NOT_FOR_IT = frozenset(
    {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"}
)

Address = tuple[str, int]


def ask(probe: Probe, pid: int) -> str:
    """Return "" if a process serves by this probe, else the reason why not."""
    try:
        if probe.kind is ProbeKind.TCP:
            return _tcp(probe, pid)
        if probe.kind is ProbeKind.UNIX:
            return _unix(probe, pid)
        if probe.kind is ProbeKind.HTTP:
            return _http(probe, pid)
        return _exec(probe, pid)
    except subprocess.TimeoutExpired:
        return f"{probe.text}: not done within {TIMEOUT * 0.8:g} s"
    except OSError as error:
        return f"{probe.text}: {error.strerror or error}"


# Whose sockets.


def _family(pid: int) -> list[int]:
    """Return the process, those of its session or group, and their descendants."""
    found = [pid]
    everyone = relations()
    found += [each.pid for each in everyone if each.pid != pid and pid in (each.session, each.group)]
    for each in found:
        found += [other.pid for other in everyone if other.parent == each and other.pid not in found]
    return found


def _inodes(pids: list[int]) -> frozenset[int]:
    """Return the inodes of the sockets that these processes have open."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{name}")
                    if target.startswith("socket:["):
                        found.add(int(target[8:-1]))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of /proc/net/tcp."""

    local: Address
    remote: Address
    state: str
    inode: int


def _tcp_table(pid: int) -> Iterator[_Entry]:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                yield _Entry(_endpoint(words[1]), _endpoint(words[2]), words[3], int(words[9]))


def _endpoint(text: str) -> Address:
    """Parse an address as the kernel writes it: words in the byte order of the machine, in hexadecimal."""
    number, _, port = text.partition(":")
    words = [bytes.fromhex(number[at : at + 8]) for at in range(0, len(number), 8)]
    packed = b"".join(each[::-1] if sys.byteorder == "little" else each for each in words)
    return _plain(str(ipaddress.ip_address(packed))), int(port, 16)


def _plain(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _own(listening: frozenset[int], pid: int, where: str) -> str:
    """Return "" if one of these listeners belongs to the process alone, else why a connection would prove nothing."""
    own = listening & _inodes(_family(pid))
    if not own:
        return f"{where}: nothing of it listens there"
    if own <= _inodes([os.getppid()]):
        return f"{where}: its socket is shared with other processes, so that any of them may answer"
    return ""


# The questions.


def _tcp(probe: Probe, pid: int) -> str:
    listening = frozenset(
        each.inode for each in _tcp_table(pid) if each.state == _LISTEN and each.local[1] == probe.port
    )
    why = _own(listening, pid, probe.text)
    if not why:
        socket.create_connection((probe.host, probe.port), TIMEOUT / 2).close()
    return why


def _unix(probe: Probe, pid: int) -> str:
    listening = set()
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        words = line.split(maxsplit=7)
        if len(words) == 8 and int(words[3], 16) & 0x10000 and words[7] == probe.path:  # __SO_ACCEPTCON
            listening.add(int(words[6]))
    why = _own(frozenset(listening), pid, probe.text)
    if not why:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT / 2)
            sock.connect(f"\0{probe.path[1:]}" if probe.path.startswith("@") else probe.path)
    return why


def _http(probe: Probe, pid: int) -> str:
    deadline = time.monotonic() + TIMEOUT * 0.8
    for _ in range(TRIES):
        with socket.create_connection((probe.host, probe.port), TIMEOUT / 2) as sock:
            owner = _acceptor(sock, pid, min(deadline, time.monotonic() + ACCEPTED))
            if owner == 0:
                return f"{probe.text}: the connection is not accepted"
            if owner in _inodes(_family(pid)):
                return _get(sock, probe, deadline)
        if time.monotonic() > deadline:
            break
    return f"{probe.text}: others accept the connections"


def _acceptor(sock: socket.socket, pid: int, deadline: float) -> int:
    """Return the inode of the other end of a connection; 0 while it is not accepted (until the deadline)."""
    local, remote = sock.getsockname(), sock.getpeername()
    ours, theirs = (_plain(local[0]), local[1]), (_plain(remote[0]), remote[1])
    while True:
        for each in _tcp_table(pid):
            if each.inode and each.local == theirs and each.remote == ours:
                return each.inode
        if time.monotonic() > deadline:
            return 0
        select.select([], [], [], 0.005)


def _get(sock: socket.socket, probe: Probe, deadline: float) -> str:
    """Ask, and read the head of the answer only: what follows it may have no end."""
    host = f"[{probe.host}]" if ":" in probe.host else probe.host
    head = (
        f"GET {probe.path} HTTP/1.1\r\nHost: {host}:{probe.port}\r\nUser-Agent: forkserve\r\nConnection: close\r\n\r\n"
    )
    sock.sendall(head.encode())
    data = b""
    while True:
        line, is_whole, _ = data.partition(b"\n")
        found = _STATUS_LINE.fullmatch(line.removesuffix(b"\r")) if is_whole else None
        if len(data) > LONGEST_HEAD or (is_whole and found is None):
            return f"{probe.text}: the answer is not HTTP/1"
        if found is not None and (status := int(found[1])) not in _INTERIM:
            return "" if 200 <= status < 400 else f"{probe.text}: answered {status}"
        end = None if found is None else _END_OF_HEAD.search(data)
        if end is not None:  # RFC 9110 15.2: the final answer follows
            data = data[end.end() :]
            continue
        sock.settimeout(max(deadline - time.monotonic(), 0.1))
        more = sock.recv(4096)
        if not more:
            return f"{probe.text}: the connection was closed {'within' if data else 'without'} an answer"
        data += more


def _exec(probe: Probe, pid: int) -> str:
    """Run the command as the process's user, in its folder and with its environment."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (each.partition(b"=")[::2] for each in variables if b"=" in each)
    env = {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}
    env = {name: value for name, value in env.items() if name not in _NOT_FOR_IT} | {"FORKSERVE_PID": str(pid)}
    folder = os.readlink(f"/proc/{pid}/cwd")
    _become_user_of(pid)
    try:
        done = subprocess.run(
            probe.words,
            check=False,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT * 0.8,
            preexec_fn=_heed_signals,  # safe: a helper has one thread
        )
    finally:
        _end_the_rest()
    return "" if done.returncode == 0 else f"{probe.text}: ended with {done.returncode}"


def _heed_signals() -> None:
    """Undo in the command what its helper ignores, since an ignored signal stays so after exec (signal(7))."""
    for signum in signal.valid_signals():
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def _end_the_rest() -> None:
    """Kill what a command has left in the helper's group: the programs of a shell that was killed, the background."""
    own = os.getpid()
    if os.getpgid(0) != own:
        return
    for each in relations():
        if each.group == own and each.pid != own:
            with contextlib.suppress(OSError):
                os.kill(each.pid, signal.SIGKILL)


def _become_user_of(pid: int) -> None:
    if os.geteuid() != 0:
        return
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    os.setgroups([int(each) for each in lines["Groups"].split()])
    os.setgid(int(lines["Gid"].split()[1]))
    os.setuid(int(lines["Uid"].split()[1]))
