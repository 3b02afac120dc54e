"""The command `chaussette`: forkserve-worker with Chaussette's defaults, for files and scripts that name it.

Rules: only the defaults differ. It binds localhost:8080, never reads PORT, and serves a hello application; words after
the application are passed to it in sys.argv.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from forkserve.cli.ending import ended
from forkserve.cli.serving import Program, WorkerInvocation, read_worker_line
from forkserve.cli.worker import obey
from forkserve.config.launch import ApplicationOptions, ListenOptions
from forkserve.errors import UsageError
from forkserve.unix.home import return_to_start

__all__ = ["CHAUSSETTE", "judge_chaussette_line", "main", "read_chaussette_line"]

HELLO = "forkserve.serving.application.hello:app"
PORT = 8080

USAGE = """\
chaussette [OPTIONS] [APPLICATION [WORD ...]]
       chaussette --fd '$(circus.sockets.web)' [OPTIONS] [APPLICATION [WORD ...]]"""

DESCRIPTION = """\
Chaussette's command line with Chaussette's defaults, served by forkserve-worker,
whose options it takes as well.

APPLICATION is package.module.attr, module:attr, or paste:FILE.ini[#name]; by default
a hello world. WORDs are passed to it in sys.argv; put -- before those that begin
with a dash."""

CHAUSSETTE = Program(
    "chaussette",
    USAGE,
    DESCRIPTION,
    takes_words=True,
    helps={"host": "Host, unix:PATH or fd://N to listen at (localhost).", "port": f"Port to listen at ({PORT})."},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `chaussette` with these arguments, by default the process's own; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return_to_start(os.environ)
    return ended(CHAUSSETTE.name, lambda: _serve(read_chaussette_line(arguments, os.environ)))


def read_chaussette_line(argv: Sequence[str], environ: Mapping[str, str]) -> WorkerInvocation:
    """Parse the arguments; raises UsageError, and SystemExit for --help and --version."""
    order, faults = judge_chaussette_line(argv, environ)
    if faults:
        raise UsageError(faults[0])
    return order


def judge_chaussette_line(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[WorkerInvocation, list[str]]:
    """Return the parsed arguments, and everything that is wrong with them; raises as `read_worker_line` does."""
    environ = {name: value for name, value in environ.items() if name != "PORT"}
    order, faults = read_worker_line(argv, environ, CHAUSSETTE)
    options = order.options
    application, listen = _application(options.application), _listen(options.listen, environ)
    options = dataclasses.replace(options, application=application, listen=listen)
    return dataclasses.replace(order, options=options), faults


def _serve(order: WorkerInvocation) -> int:
    sys.argv[1:] = order.options.application.arguments
    return obey(order)


def _application(given: ApplicationOptions) -> ApplicationOptions:
    if given.application is None and given.config is None:
        return dataclasses.replace(given, application=HELLO)
    return given


def _listen(given: ListenOptions, environ: Mapping[str, str]) -> ListenOptions:
    """Return where to listen; explicit flags, or sockets from LISTEN_FDS (sd_listen_fds(3)), take precedence."""
    if given.host is not None and given.host.startswith(("unix:", "fd://")):
        return dataclasses.replace(given, port=None)
    handed = environ.get("LISTEN_FDS") and environ.get("LISTEN_PID") == str(os.getpid())
    if given.fd or given.bind or given.uds or (handed and given.host is None and given.port is None):
        return given
    host = given.host or ("::1" if given.address_family is socket.AF_INET6 else "localhost")
    return dataclasses.replace(given, host=host, port=PORT if given.port is None else given.port)


if __name__ == "__main__":
    sys.exit(main())
