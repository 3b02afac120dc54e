"""The command line of a foreign worker, and its run."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import socket
import sys

from . import meinheld_loop
from .drain import Drain
from .flight import Flight
from .loading import load, load_hook
from .mistakes import CONFIG, OK, UserError
from .servers import BACKENDS, missing

__all__ = ["main"]


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line that forkserve-worker wrote."""
    parser = argparse.ArgumentParser(prog="forkserve-worker --python", allow_abbrev=False)
    parser.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    parser.add_argument("--fd", type=int, action="append", required=True)
    parser.add_argument("--python-path", action="append", default=[])
    parser.add_argument("--chdir")
    parser.add_argument("--factory", action="store_true")
    parser.add_argument("--pre-hook")
    parser.add_argument("--post-hook")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--graceful-timeout", type=float, default=30.0)
    parser.add_argument("--keep-alive", type=float, default=5.0)
    parser.add_argument("--max-body", type=int, default=0)
    parser.add_argument("--title")
    parser.add_argument("application")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Prepare the process and serve until drained."""
    if args.chdir:
        os.chdir(args.chdir)
    with contextlib.suppress(FileNotFoundError):  # the working directory has been deleted
        sys.path[:0] = [*map(os.path.abspath, args.python_path), os.getcwd()]
    drain = Drain(args.graceful_timeout)
    serve, _ = BACKENDS[args.backend]
    try:
        if args.backend == "gevent":
            importlib.import_module("gevent.monkey").patch_all()
        elif args.backend == "meinheld":
            meinheld_loop.import_server()
        elif args.backend != "wsgiref":
            importlib.import_module(args.backend)
    except ImportError as error:
        raise UserError(missing(args.backend, error)) from None
    listeners = [socket.socket(fileno=fd) for fd in args.fd]
    app = Flight(load(args.application, args.factory), listeners[0])
    if args.title and importlib.util.find_spec("setproctitle"):
        importlib.import_module("setproctitle").setproctitle(args.title)
    if args.pre_hook:
        load_hook(args.pre_hook)(args)
    try:
        serve(app, listeners, drain, args)
    finally:
        if args.post_hook:
            load_hook(args.post_hook)(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        run(arguments(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"forkserve-worker: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"forkserve-worker: {error}", file=sys.stderr)
        return CONFIG
    return OK
