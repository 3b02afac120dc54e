"""Whether a watcher's application is imported once, in a zygote, and what prevents it.

Rules: pure. Requested by an option of the watcher, or by the flag `--preload` of its forkserve-worker.
"""

from __future__ import annotations

import os

from forkserve.config.model import WatcherOptions

__all__ = ["OWN_PROGRAMS", "WORKER", "command_words", "is_preloaded", "preload_fault", "reforks", "worker_arguments"]

WORKER = "forkserve-worker"
OWN_PROGRAMS = frozenset({"forkserve", WORKER, "forkservectl", "chaussette"})
"""Programs that are also found beside the running Python, so that an environment need not be activated."""

_FLAGS = frozenset({"--preload", "--preload-app"})
_RELOADING = frozenset({"--use-reloader", "--reload"})


def command_words(options: WatcherOptions) -> list[str]:
    """Return the words of a command, approximately: quoted words lose their quotation marks, and may be split."""
    return [word.strip("'\"") for word in f"{options.cmd} {options.args}".split()]


def worker_arguments(words: list[str]) -> list[str] | None:
    """Return the words after the name of our worker; None for any other program."""
    for index, word in enumerate(words):
        if os.path.basename(word) == WORKER:
            return words[index + 1 :]
    return None


def is_preloaded(options: WatcherOptions) -> bool:
    """True if a zygote is to fork the workers."""
    return options.preload or bool(_FLAGS & set(worker_arguments(command_words(options)) or ()))


def reforks(options: WatcherOptions) -> bool:
    """True if a worker that has served enough requests becomes the next zygote."""
    return options.refork_after > 0 or _asks_to_refork(options)


def _asks_to_refork(options: WatcherOptions) -> bool:
    arguments = worker_arguments(command_words(options)) or ()
    return any(word.partition("=")[0] == "--refork-after" for word in arguments)


def preload_fault(options: WatcherOptions) -> str | None:
    """Return why requested preloading is not possible; None if it is."""
    arguments = worker_arguments(command_words(options))
    if arguments is None:
        return f"{WORKER} alone can preload its application, and cmd does not run it: leave preload out"
    if options.shell:
        return "a command in a shell cannot preload: leave out shell, and give the words of forkserve-worker in cmd"
    if options.send_hup:
        return "send_hup has each worker load its code again by itself, which preload is not for: leave out one of them"
    flag = next((word for word in arguments if word.partition("=")[0] in _RELOADING), None)
    if flag is not None:
        return f"{flag} has each worker load its code again by itself, which preload is not for: leave out one of them"
    if any(word.partition("=")[0] == "--python" for word in arguments):
        return "another interpreter (--python) cannot preload: leave out one of them"
    return None
