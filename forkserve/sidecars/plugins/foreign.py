"""Runs a user's CircusPlugin, unmodified: with Circus's two endpoints, and the options of its section.

If the configuration has no endpoints it gets private ones, in a folder of this process: a child serves them, by the
program that serves configured ones.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forkserve.errors import ForkserveError
from forkserve.sidecars.dotted import load_dotted
from forkserve.unix.notify import notify
from forkserve.unix.prctl import set_death_signal

__all__ = ["run_foreign"]

log = logging.getLogger("forkserve.plugins")

PATIENCE, LOOK = 10.0, 0.02
"""Seconds until our endpoints must exist, and between two checks."""


def run_foreign(use: str, options: Mapping[str, str], endpoints: tuple[str | None, str | None], **more: Any) -> None:
    """Run a plugin until SIGTERM. `more` are the path of the control socket, `control`, and `check_delay`.

    Raises ForkserveError if it cannot be imported or created.
    """
    factory = _factory(use)
    with _served(endpoints, more["control"]) as (endpoint, pubsub):
        try:
            plugin = factory(endpoint, pubsub, more["check_delay"], None, **options)
        except Exception as error:
            log.debug("%s", use, exc_info=True)
            raise ForkserveError(f"{use} cannot be made: {type(error).__name__}: {error}") from error
        signal.signal(signal.SIGTERM, _interrupt)
        notify("READY=1")
        try:
            with contextlib.suppress(KeyboardInterrupt):
                plugin.start()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            plugin.stop()


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _factory(use: str) -> Any:
    try:
        return load_dotted(use)
    except ImportError as error:
        hint = " (pip install circus)" if (error.name or "").partition(".")[0] in ("circus", "zmq", "tornado") else ""
        raise ForkserveError(f"cannot import {use}: {error}{hint}") from error
    except AttributeError as error:
        raise ForkserveError(f"cannot import {use}: {error}") from error


@contextlib.contextmanager
def _served(endpoints: tuple[str | None, str | None], control: Path) -> Iterator[tuple[str, str]]:
    """Return endpoints that a client can connect to, created here if they are missing."""
    endpoint, pubsub = endpoints
    if endpoint and pubsub:
        yield _reachable(endpoint), _reachable(pubsub)
        return
    with tempfile.TemporaryDirectory(prefix="forkserve-plugin-") as folder:
        made = [Path(folder) / "endpoint", Path(folder) / "pubsub"]
        flags = ("--endpoint", f"ipc://{made[0]}", "--pubsub", f"ipc://{made[1]}", "--log-level", "warning")
        argv = (sys.executable, "-P", "-m", "forkserve.sidecars.circus", "--control", str(control), *flags)
        with subprocess.Popen(argv, preexec_fn=lambda: set_death_signal(signal.SIGKILL)) as server:
            try:
                deadline = time.monotonic() + PATIENCE
                while not all(each.exists() for each in made):
                    if _has_ended(server, LOOK) or time.monotonic() > deadline:
                        raise ForkserveError("no endpoints for it: is pyzmq there? pip install 'forkserve[circus]'")
                yield f"ipc://{made[0]}", f"ipc://{made[1]}"
            finally:
                server.kill()


def _has_ended(server: subprocess.Popen[bytes], seconds: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(seconds)
        return True
    return False


def _reachable(address: str) -> str:
    """Return where a client finds a socket that listens at all addresses."""
    return re.sub(r"^tcp://(\*|0\.0\.0\.0):", "tcp://127.0.0.1:", address)
