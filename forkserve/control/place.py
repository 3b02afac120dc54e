"""Where the control socket is found, by the master that creates it and by the client that looks for it.

A configured path is used as it is. Otherwise the socket lies in the first usable one of these folders, each 0700:
`$XDG_RUNTIME_DIR/forkserve`, `/run/forkserve` for root, `$TMPDIR/forkserve-UID`, `/tmp/forkserve-UID`. Its name is
derived from the configuration file, so that `forkservectl -c FILE` finds it; without a file it contains the pid of the
master. Nothing is ever written into the home or the working directory.
"""

from __future__ import annotations

import os
import socket
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from forkserve.errors import ControlError
from forkserve.unix.home import typed

__all__ = ["default_path", "keeper_path", "left_keeper", "find", "is_live", "live_sockets"]


_SHARED = ("/run", "/tmp")
"""Where root, and where any user, has a folder."""

LONGEST = 107
"""Most bytes of the path of a socket (unix(7))."""


def _candidates(shared: tuple[str, str] = _SHARED) -> Iterator[Path]:
    # Not tempfile.gettempdir(): that tries the working directory too, and raises when nothing can be written to.
    runtime, temporary = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR")
    folders = [Path(runtime) / "forkserve"] if runtime else []
    of_root, of_all = shared
    folders += [Path(of_root) / "forkserve"] if os.geteuid() == 0 else []
    folders += [Path(each) / f"forkserve-{os.geteuid()}" for each in (temporary, of_all) if each]
    yield from dict.fromkeys(each for each in folders if each.is_absolute())


def _file_name(configuration: str | None, pid: int | None) -> str:
    if configuration is None:
        return f"forkserve-{pid}.sock"
    path = Path(os.path.normpath(configuration))
    return f"{path.stem[:40]}-{zlib.crc32(bytes(path)):08x}.sock"


def default_path(configuration: str | None, *, shared: tuple[str, str] = _SHARED) -> Path | None:
    """Return the path for this master's socket, in a folder that was created and verified; None if no folder is usable.

    `shared` are the folders of the system in which root, and in which any user, may have one. A folder that another
    user owns or may write to is skipped, since that user could put another socket there.
    """
    name = _file_name(configuration, os.getpid())
    for folder in _candidates(shared):
        if len(os.fsencode(folder / name)) > LONGEST:
            continue
        try:
            folder.mkdir(mode=0o700, parents=False, exist_ok=True)
            if _is_ours(folder) and os.access(folder, os.W_OK):
                _sweep(folder)
                return folder / name
        except OSError:
            continue
    return None


def keeper_path(key: str) -> Path | None:
    """Return where the keeper of a master with this configuration is asked; None where no folder can be had.

    `key` is an absolute path, that of the configuration or one made up.
    """
    found = default_path(key)
    return None if found is None else found.with_suffix(".keeper")


def left_keeper(key: str) -> Path | None:
    """Return where a keeper of this configuration is asked, if there was one; makes no folder."""
    paths = [folder / _file_name(key, None) for folder in _candidates() if _can_be_trusted(folder)]
    found = (path.with_suffix(".keeper") for path in paths)
    return next((path for path in found if path.is_socket()), None)


def _sweep(folder: Path) -> None:
    """Remove the sockets of killed masters: nothing listens on them, and their pids are reused."""
    for path in folder.glob("*.sock"):
        if not is_live(path):
            path.unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022


def _can_be_trusted(folder: Path) -> bool:
    """Tell whether it exists and is ours: in /tmp, any user may have created a folder by this name first."""
    try:
        return _is_ours(folder)
    except OSError:
        return False


def is_live(path: Path) -> bool:
    """Tell whether a program listens on this socket; a file left by a killed master does not answer (ECONNREFUSED)."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def live_sockets() -> list[Path]:
    """Return the sockets of all masters that run here."""
    folders = [folder for folder in _candidates() if _can_be_trusted(folder)]
    return [path for folder in folders for path in sorted(folder.glob("*.sock")) if is_live(path)]


def find(configuration: str) -> Path:
    """Return the socket of the master that runs `configuration`; raises ControlError if there is none."""
    folders = [folder for folder in _candidates() if _can_be_trusted(folder)]
    # As it was typed, as the master has it, and as it is behind its links.
    written = dict.fromkeys((typed(configuration, os.environ), str(Path(configuration).resolve())))
    for path in (folder / _file_name(each, None) for each in written for folder in folders):
        if is_live(path):
            return path
    raise ControlError(f"no forkserve runs {configuration}: start it with `forkserve -c {configuration}`")
