"""The command `forkserve-worker`: verbs, printing and exit codes.

Rules: a user's mistake is one line on stderr that begins with `forkserve-worker: error:`. Above it stands the traceback
of the application's own code, if it was that which failed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from forkserve.backends.registry import find, state_of
from forkserve.cli.backends import backends_json, backends_table
from forkserve.cli.serving import Order, parse_worker_line
from forkserve.errors import ExitCode, ForkserveError, UsageError
from forkserve.worker import Worker, check

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `forkserve-worker` with these arguments, by default the process's own; returns the exit code."""
    try:
        return _obey(parse_worker_line(sys.argv[1:] if argv is None else argv, os.environ))
    except ForkserveError as error:
        trace = getattr(error, "traceback", "")
        if trace:
            print(trace, file=sys.stderr)
        print(f"forkserve-worker: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # the reader of a list has seen enough; nothing may be flushed into its pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as done:
        # argparse ends --help and --version so
        return int(done.code or 0)


def _obey(order: Order) -> int:
    if order.list_backends:
        print(backends_json() if order.json else backends_table(), flush=True)
        return ExitCode.OK
    if order.install_backend is not None:
        return _install(order.install_backend)
    if order.check:
        print(check(order.options))
        return ExitCode.OK
    return Worker(order.options, os.environ).run()


def _install(name: str) -> int:
    if name != "meinheld":
        state = state_of(find(name).traits)
        raise UsageError(f"only meinheld is built here; for {name}: {state.cure or 'nothing is to be done'}")
    # imported late: nothing else needs its tools
    from forkserve.backends.meinheld.build import install

    install(lambda line: print(line, flush=True))
    return ExitCode.OK
