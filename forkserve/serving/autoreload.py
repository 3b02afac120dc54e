"""Detects changes of source files, for development.

Rules: by watchfiles if it is installed, else by checking the time of every file once a second. Watched are the files of
all imported modules outside the standard library and the installed packages, and what the options add; while the
application is broken, also every Python file below the current folder, since it may not have been imported yet.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import sysconfig
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from os import posix_spawn, waitpid
from os import read as os_read
from pathlib import Path
from select import poll
from time import time_ns

from forkserve.config.launch import ReloadOptions
from forkserve.unix.home import START, here
from forkserve.unix.signalmask import leave_signals_to_main

__all__ = ["CodeReloader", "can_load", "own_files"]

log = logging.getLogger("forkserve.reloader")

INTERVAL_MS = 500
BY_TIME = "FORKSERVE_RELOADER"
"""Variable that, set to `stat`, polls the times even if watchfiles is installed: a network share sends no events."""
SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "env"})


class CodeReloader:
    """Watches the application's source; `changed` is called once, on the reloader's own thread."""

    def __init__(self, options: ReloadOptions, changed: Callable[[str], None]) -> None:
        self.options = options
        self.changed = changed
        self.made = time_ns()

    def start(self) -> None:
        """Watch in the background; the thread is a real one even if gevent has patched `threading`."""
        start_new_thread(self._watch, ())

    def _watch(self) -> None:
        leave_signals_to_main()
        self.changed(self.wait(broad=False))

    def wait(self, *, broad: bool = True) -> str:
        """Wait until a watched file changes and return its path; `broad` is for a broken application.

        A file that has changed since the reloader was created counts too, so that no change is lost between two checks,
        nor during the import of the application.
        """
        before = _times(self.files(broad=broad))
        log.info("watching %d files", len(before))
        for path, time in before.items():
            if self.made <= time <= time_ns():
                return path
        for _ in self._moments(broad=broad):
            after = _times(self.files(broad=broad))
            for path, time in after.items():
                # A module imported since is no change, but a new file may be what a broken application lacked.
                if before.get(path, time if not broad else 0) != time:
                    return path
            before = after
        return "nothing"

    def _moments(self, *, broad: bool) -> Iterator[object]:
        """Yield whenever files should be checked: at events of the file system if available, else regularly."""
        if os.environ.get(BY_TIME, "") == "stat" or find_spec("watchfiles") is None:
            pause = poll()
            while True:
                pause.poll(INTERVAL_MS)
                yield None
        watchfiles = importlib.import_module("watchfiles")
        folders = {os.path.dirname(path) for path in self.files(broad=broad)}
        folders |= {os.path.abspath(folder) for folder in (*self.options.reload_dir, *(here() if broad else []))}
        present = [folder for folder in _outermost(folders) if os.path.isdir(folder)]
        yield from watchfiles.watch(
            *present, raise_interrupt=False, debounce=100, yield_on_timeout=True, rust_timeout=2 * INTERVAL_MS
        )

    def files(self, *, broad: bool) -> set[str]:
        """Return the files that are watched now."""
        found = {os.path.abspath(path) for path in self.options.reload_extra_file}
        found |= own_files()
        folders = [*self.options.reload_dir, *(here() if broad else [])]
        for folder in folders:
            found |= set(_python_files(folder))
        return found


def can_load(folder: str | None) -> bool:
    """Return whether the command of this process could load its application now, in a process that starts in `folder`.

    Errors go to stderr. The answer is its output, not its exit status: in a process with libev, as under gevent, the
    child may have been reaped elsewhere. The functions are those from before any monkey patch.
    """
    read, write = os.pipe()
    words = list(sys.orig_argv)
    words.insert(words.index("--") if "--" in words else len(words), "--check")
    environ = os.environ | ({START: folder} if folder else {})
    pid = posix_spawn(sys.executable, words, environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)], setsigmask=())
    os.close(write)
    said = b""
    while part := os_read(read, 4096):
        said += part
    os.close(read)
    with contextlib.suppress(ChildProcessError):
        waitpid(pid, 0)
    return b": fine (" in said


def own_files() -> set[str]:
    """Return the source files of the imported modules that belong neither to Python nor to an installed package."""
    paths = sysconfig.get_paths()
    foreign = tuple({paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]})
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {os.path.abspath(path) for path in found if path and not path.startswith(foreign)}


def _python_files(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each not in SKIPPED and not each.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                yield os.path.abspath(os.path.join(root, name))


def _times(paths: Iterable[str]) -> dict[str, int]:
    times = {}
    for path in paths:
        try:
            times[path] = os.stat(path).st_mtime_ns
        except OSError:
            continue
    return times


def _outermost(folders: Iterable[str]) -> list[str]:
    """Leave out folders that lie within others."""
    kept: list[str] = []
    for folder in sorted(folders):
        if not any(Path(folder).is_relative_to(each) for each in kept):
            kept.append(folder)
    return kept
