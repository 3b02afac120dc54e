"""What the keeper does: it holds what a master has, and when that is killed gives it to another, or ends everything.

Theory of operation. While the master lives the keeper takes in what that tells, and tells those who ask that there is
a master. When the master is gone it goes on holding: sockets queue, processes serve. The first master that asks gets
all of it, one at a time; if it dies before it has said `done`, the next may have it. SIGTERM ends everything instead,
as the guard would have, and so does the end of the last process.

Rules: it acts on a group only at an order, or when the master is gone and nothing is to be kept. SIGTERM means
nothing while the master lives: a whole control group gets it, and the master stops in order. But the master may be
killed in the same instant, so it counts for a moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

from forkserve.supervision.keeper.notifyrelief import NotifyRelief
from forkserve.supervision.keeper.protocol import portions, receive, send
from forkserve.supervision.os.guard import GOODBYE, GRACE, RECORD, GuardedGroup, end_all, end_groups, note
from forkserve.supervision.os.proc import members_of
from forkserve.unix.peer import peer_of

__all__ = ["run_keeper"]

LOOK = 5.0
"""Seconds between two looks at which groups have ended, whose numbers may be given to strangers."""

EMPTY_PATIENCE = 10.0
"""Seconds for which sockets are held although no process is left."""

TOLD = 5.0
"""Seconds for which a SIGTERM counts that came before the end of the master."""


def run_keeper(channel: int, mark: str) -> None:
    """Run until everything has been handed over, or has ended. Runs in the keeper; `mark` is that of `Guard`."""
    _KeeperServer(socket.socket(fileno=channel), mark).run()


class _KeeperServer:
    def __init__(self, channel: socket.socket, mark: str) -> None:
        self._channel = channel
        self._mark = mark
        self._master = os.getppid()
        self._groups: dict[int, GuardedGroup] = {}
        self._held: dict[int, int] = {}
        self._coming: dict[int, int] = {}
        self._closing: set[int] = set()
        self._state = -1
        self._ready: set[int] = set()
        self._listener: socket.socket | None = None
        self._is_armed = self._is_farewell = False
        self._decided = -1
        self._awaiting: socket.socket | None = None
        self._told_at = float("-inf")
        self._wake, waking = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(signum, self._told)

    def _told(self, _signum: int, _frame: object) -> None:
        self._told_at = time.monotonic()

    def run(self) -> None:
        self._attend()
        if not (self._is_armed or _has_byte(self._decided)):
            return  # the keeper of another master still has all of it
        if self._state >= 0 and not self._is_farewell and time.monotonic() - self._told_at > TOLD:
            self._told_at = float("-inf")
            self._say(f"the master, pid {self._master}, is gone; its processes serve on until another takes over")
            ending = self._wait_for_another()
            if ending is not None:
                self._let_go()
                end_groups(ending, 0.0)
                return
        if self._listener is not None and not self._is_farewell:  # else it is the master's to remove
            with contextlib.suppress(OSError):
                os.unlink(self._listener.getsockname())
        self._let_go()
        end_all(self._groups, self._mark, 0.0)

    def _let_go(self) -> None:
        """Close everything, so that ports are free."""
        for fd in (*self._held.values(), *self._coming.values(), self._state):
            if fd >= 0:
                os.close(fd)
        if self._listener is not None:
            self._listener.close()

    # While the master lives.

    def _attend(self) -> None:
        """Take in what the master tells until it is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            self._drain()
            if self._channel.fileno() in ready and not self._hear():
                return
            if self._listener is not None:
                poll.register(self._listener, select.POLLIN)
                if self._listener.fileno() in ready and self._refuse():
                    return

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 64)

    def _hear(self) -> bool:
        """Take one message; False when the master is gone."""
        said, fds = receive(self._channel)
        if said is None:
            return False
        if isinstance(said, bytes):
            if said == GOODBYE:
                self._mark = self._mark if self._is_farewell else ""
                self._state = self._state if self._state < 0 else self._forget_state()
            elif len(said) == RECORD.size:
                note(self._groups, said)
        else:
            self._take(said, fds)
        return True

    def _take(self, said: Mapping[str, Any], fds: list[int]) -> None:
        if "listen" in said:
            self._listener = socket.socket(fileno=fds[0])
        elif "arm" in said:
            self._is_armed = not fds
            self._decided = fds[0] if fds else -1
        elif "farewell" in said:
            self._is_farewell = True
            self._forget_state()
        elif "ready" in said:
            self._ready.add(said["ready"])
        elif "begin" in said:
            for fd in self._coming.values():
                os.close(fd)
            self._coming, self._closing = {}, set(self._held) if said["begin"] == "all" else set()
        elif "close" in said:
            self._closing.update(said["close"])
        elif "hold" in said:
            self._coming.update(zip(said["hold"], fds, strict=True))
        elif "keep" in said and not self._is_farewell:
            self._commit(fds[0])

    def _commit(self, state: int) -> None:
        for number in self._closing | self._coming.keys():
            if number in self._held:
                os.close(self._held.pop(number))
        self._held |= self._coming
        self._coming, self._closing, self._ready = {}, set(), set()
        if self._state >= 0:
            os.close(self._state)
        self._state = state

    def _forget_state(self) -> int:
        """Hold nothing any more."""
        for fd in (*self._held.values(), *self._coming.values(), self._state):
            if fd >= 0:
                os.close(fd)
        self._held, self._coming, self._state = {}, {}, -1
        return -1

    def _refuse(self) -> bool:
        """Tell one who asks that there is a master; True when it is just gone, and the asker waits."""
        if not _is_alive(self._master):
            while self._hear():
                pass
            return True
        assert self._listener is not None
        with contextlib.suppress(OSError), self._listener.accept()[0] as asking:
            send(asking, {"refused": f"pid {self._master} runs it"})
        return False

    # When the master is gone.

    def _wait_for_another(self) -> dict[int, GuardedGroup] | None:
        """Hold on; returns which groups are to end when another master has the rest, None when all are."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        assert self._listener is not None
        poll.register(self._listener, select.POLLIN)
        relief = NotifyRelief(self._held)
        for fd in relief.fds:
            poll.register(fd, select.POLLIN)
        seen = time.monotonic()
        while self._told_at < 0:
            ready = {fd for fd, _ in poll.poll(LOOK * 1000)}
            self._drain()
            for fd in relief.fds & ready:
                relief.take(fd)
            if self._listener.fileno() in ready:
                with contextlib.suppress(OSError), self._listener.accept()[0] as asking:
                    if (answer := self._hand_over(asking, relief)) is not None:
                        return None if isinstance(answer, str) else self._ending(answer)
            self._forget_ended()
            now = time.monotonic()
            seen = now if self._groups else seen
            if now - seen > EMPTY_PATIENCE:
                self._say("no process is left: ending, sockets are closed")
                return None
        self._say("told to end: ending what the master has left")
        return None

    def _ending(self, pgids: set[int]) -> dict[int, GuardedGroup]:
        """Return groups that are to end, also those of which nobody has told."""
        return {pgid: self._groups.get(pgid) or GuardedGroup(pgid, signal.SIGTERM, GRACE) for pgid in pgids}

    def _forget_ended(self) -> None:
        with contextlib.suppress(OSError):
            members = members_of(self._groups)
            living = {each.group for each in members} | {each.session for each in members}
            self._groups = {pgid: each for pgid, each in self._groups.items() if pgid in living}

    def _hand_over(self, asking: socket.socket, relief: NotifyRelief) -> str | set[int] | None:
        """Give one master everything; returns which groups are to end, "end" for all, None when it has not taken it."""
        peer = peer_of(asking)
        if peer.uid not in (0, os.geteuid()):
            send(asking, {"refused": "its keeper is another user's"})
            return None
        numbers = list(self._held)
        for portion in portions(numbers):
            send(asking, {"hold": list(portion)}, [self._held[number] for number in portion])
        for number, texts in relief.said():
            send(asking, {"said": number, "texts": texts})
        assert self._listener is not None
        groups = [[each.pgid, each.stop_signal, each.grace] for each in self._groups.values()]
        facts = {"kept": self._master, "keeper": os.getpid(), "groups": groups, "ready": sorted(self._ready)}
        send(asking, facts, [self._state, self._listener.fileno()])
        return self._wait_for(asking, peer.pid)

    def _wait_for(self, asking: socket.socket, pid: int) -> str | set[int] | None:
        ending: set[int] = set()
        decided = -1
        poll = select.poll()
        poll.register(asking, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while self._told_at < 0:
            ready = {fd for fd, _ in poll.poll()}
            self._drain()
            said = None
            if asking.fileno() in ready:
                said, fds = receive(asking)
                if isinstance(said, dict) and "done" in said:
                    ending, decided = set(said["done"]), fds[0]
                    poll.register(decided, select.POLLIN)
                elif isinstance(said, dict) and "end" in said:
                    self._awaiting = asking.dup()  # it waits for the end of the last process
                    return "end"
            if _has_byte(decided):
                self._say(f"pid {pid} has taken over")
                return ending
            if asking.fileno() in ready and said is None:
                self._say(f"pid {pid} has asked, and has ended before it took over")
                return None
        return "end"

    @staticmethod
    def _say(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"forkserve: keeper: {text}\n".encode())


def _has_byte(pipe: int) -> bool:
    """Tell whether a master has decided that it takes over."""
    if pipe < 0:
        return False
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def _is_alive(pid: int) -> bool:
    """Tell whether our parent has not ended; a zombie has, and has closed everything."""
    return os.getppid() == pid and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    return True
