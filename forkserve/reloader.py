"""Noticing that a source file has changed, for development.

Rules: by watchfiles if it is installed, else by asking for the time of every file once a second. What is watched: the
files of all imported modules outside the standard library and the installed packages, and what the options add; while
the application is broken, also every Python file below the current folder, since it may not have been imported yet.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from select import poll

from forkserve.config.launch import ReloadOptions

__all__ = ["Reloader", "own_files"]

INTERVAL_MS = 500
SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "env"})


class Reloader:
    """Watches the application's source; `changed` is called once, on the reloader's own thread."""

    def __init__(self, options: ReloadOptions, changed: Callable[[str], None]) -> None:
        self.options = options
        self.changed = changed

    def start(self) -> None:
        """Watch in the background; the thread is a real one also where gevent has patched `threading`."""
        start_new_thread(lambda: self.changed(self.wait(broad=False)), ())

    def wait(self, *, broad: bool = True) -> str:
        """Wait until a watched file changes and return its path; `broad` is for a broken application."""
        if find_spec("watchfiles") is not None:
            return self._wait_for_events(broad=broad)
        return self._wait_by_time(broad=broad)

    def files(self, *, broad: bool) -> set[str]:
        """Return the files watched at this moment."""
        found = {os.path.abspath(path) for path in self.options.reload_extra_file}
        found |= own_files()
        folders = [*self.options.reload_dir, *([os.getcwd()] if broad else [])]
        for folder in folders:
            found |= set(_python_files(folder))
        return found

    def _wait_by_time(self, *, broad: bool) -> str:
        pause = poll()
        before = _times(self.files(broad=broad))
        while True:
            pause.poll(INTERVAL_MS)
            after = _times(self.files(broad=broad))
            for path, time in after.items():
                # A module imported since is no change; one that has gone is not served until it is back.
                if path in before and before[path] != time:
                    return path
            before = after

    def _wait_for_events(self, *, broad: bool) -> str:
        watchfiles = importlib.import_module("watchfiles")
        folders = {os.path.dirname(path) for path in self.files(broad=broad)}
        folders |= {os.path.abspath(folder) for folder in self.options.reload_dir}
        if broad:
            folders.add(os.getcwd())
        present = [folder for folder in _outermost(folders) if os.path.isdir(folder)]
        for changes in watchfiles.watch(*present, raise_interrupt=False, debounce=100):
            watched = self.files(broad=broad)
            for _, path in changes:
                if path in watched or (path.endswith(".py") and any(path.startswith(f) for f in folders if broad)):
                    return str(path)
        return "nothing"


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
