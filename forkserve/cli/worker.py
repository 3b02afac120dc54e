"""The command `forkserve-worker`: its verbs and what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from forkserve.backends.preparation import check
from forkserve.backends.registry import find, state_of
from forkserve.cli.backends import backends_json, backends_table
from forkserve.cli.ending import ended, say
from forkserve.cli.serving import WorkerInvocation, flags_of, parse_worker_line
from forkserve.cli.spellings import in_typed_words
from forkserve.config.handover import ZYGOTE
from forkserve.config.launch import WorkerOptions
from forkserve.errors import FINAL, ExitCode, ForkserveError, UsageError
from forkserve.serving.startupfailure import leave_report_to_predecessors
from forkserve.unix.home import return_to_start
from forkserve.unix.proctitle import prepare_title
from forkserve.worker import Worker

__all__ = ["main", "obey"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `forkserve-worker` with these arguments, by default the process's own; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    prepare_title()
    return_to_start(os.environ)
    return ended("forkserve-worker", lambda: _serve(arguments, dict(os.environ)))


def _serve(arguments: Sequence[str], started_with: Mapping[str, str]) -> int:
    try:
        return obey(parse_worker_line(arguments, os.environ))
    except ForkserveError as error:
        if error.exit_code in FINAL:
            leave_report_to_predecessors(started_with)
        raise


def obey(order: WorkerInvocation) -> int:
    """Carry out a line; returns the exit code. Raises ForkserveError."""
    if order.list_backends:
        say(f"{backends_json() if order.json else backends_table()}\n")
        return ExitCode.OK
    if order.install_backend is not None:
        return _install(order.install_backend)
    with in_typed_words(flags_of(order.options)):
        if order.check:
            say(f"{check(order.options)}\n")
            return ExitCode.OK
        if ZYGOTE in os.environ:
            return _preload(order.options)
        return Worker(order.options, os.environ).run()


def _preload(options: WorkerOptions) -> int:
    # imported late: a worker that imports by itself starts sooner without it
    from forkserve import zygote

    return zygote.run(options, os.environ, lambda words: parse_worker_line(words, os.environ).options)


def _install(name: str) -> int:
    if name != "meinheld":
        state = state_of(find(name).traits)
        raise UsageError(f"only meinheld is built here; for {name}: {state.cure or 'nothing is to be done'}")
    # imported late: nothing else needs its tools
    from forkserve.backends.meinheld.build import install

    install(lambda line: say(f"{line}\n"))
    return ExitCode.OK
