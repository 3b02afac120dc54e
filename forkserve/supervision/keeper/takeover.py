"""How a new master finds the keeper of one that was killed, and takes everything over.

Rules: nothing changes for the keeper before `done` or `end_all`: if this process ends before, the next may ask.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from forkserve.errors import BindError
from forkserve.supervision.keeper.protocol import receive, send
from forkserve.supervision.os.reexec import read_sealed
from forkserve.unix.peer import peer_of

__all__ = ["Inheritance", "ask_keeper", "keeper_socket"]


@dataclass(slots=True)
class Inheritance:
    """What a killed master has left.

    `numbers` leads from its descriptors to ours, `groups` has the process groups, `ready` the pids that serve and of
    which the state does not say so yet, `said` what processes have said since, by our descriptor of their socket.
    `listener` is the socket at which keepers are asked; it goes to our own keeper.
    """

    asking: socket.socket
    keeper: int
    master: int
    state: bytes
    numbers: dict[int, int]
    groups: frozenset[int]
    ready: frozenset[int]
    said: dict[int, list[str]]
    listener: socket.socket
    is_done: bool = False

    def done(self, ending: Collection[int], decided: int, deciding: int) -> None:
        """Let the keeper end these groups, and go: the rest is ours. Raises OSError when it has died.

        The one byte in a pipe is what both keepers look at, so that one of them has all of it whenever we are killed.
        """
        send(self.asking, {"done": sorted(ending)}, [decided])
        os.write(deciding, b"\1")
        self.is_done = True
        self.asking.close()

    def abolish(self) -> None:
        """Close the socket at which keepers are asked, since there is to be none any more."""
        with contextlib.suppress(OSError):
            os.unlink(self.listener.getsockname())
        self.listener.close()

    def end_all(self) -> None:
        """Have the keeper end all processes, and wait until they have ended."""
        self.close()
        with self.asking, contextlib.suppress(OSError):
            send(self.asking, {"end": True})
            self.asking.settimeout(None)
            self.asking.recv(1)

    def close(self) -> None:
        """Close all descriptors that came along."""
        self.listener.close()
        for fd in self.numbers.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.numbers.clear()


def ask_keeper(path: Path) -> Inheritance | None:
    """Return what the keeper that listens there has for us, None when there is none.

    Waits while another asks. Raises BindError when a master runs, or when another has taken over meanwhile.
    """
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        asking.connect(str(path))
        if peer_of(asking).uid not in (0, os.geteuid()):
            raise BindError(f"{path} is another user's")
        return _received(asking)
    except (FileNotFoundError, ConnectionRefusedError):
        asking.close()
        return None
    except (OSError, ValueError) as error:
        asking.close()
        raise BindError(f"keeper {path}: {error}; start forkserve again") from None
    except BaseException:
        asking.close()
        raise


def _received(asking: socket.socket) -> Inheritance:
    numbers: dict[int, int] = {}
    messages: dict[int, list[str]] = {}
    while True:
        said, fds = receive(asking)
        if not isinstance(said, dict):
            raise ConnectionResetError("it has ended")
        if "refused" in said:
            raise BindError(f"another forkserve runs this configuration: {said['refused']}")
        if "hold" in said:
            numbers |= zip(said["hold"], fds, strict=True)
        elif "said" in said:
            messages[numbers[said["said"]]] = said["texts"]
        else:
            state, listener = fds
            content = read_sealed(state)
            os.close(state)
            groups = frozenset(pgid for pgid, _, _ in said["groups"])
            return Inheritance(
                asking,
                said["keeper"],
                said["kept"],
                content,
                numbers,
                groups,
                frozenset(said["ready"]),
                messages,
                socket.socket(fileno=listener),
            )


def _refuse_living(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise BindError(f"keeper {path}: another forkserve runs this configuration")


def keeper_socket(path: Path) -> socket.socket:
    """Return a socket that listens there, for a keeper; raises BindError when another does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    previous = os.umask(0o177)
    try:
        if path.is_socket():
            _refuse_living(path)
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise BindError(f"keeper {path}: {error.strerror}") from None
    finally:
        os.umask(previous)
    listener.listen(16)
    return listener
