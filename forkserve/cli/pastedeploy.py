"""The server runner of PasteDeploy: `[server:main] use = egg:forkserve`, for `pserve FILE.ini` and similar commands.

One worker serves PasteDeploy's application in this process. With `workers` above 1 this process becomes forkserve,
whose workers load the application from the same file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from forkserve.cli.ending import ended
from forkserve.cli.serving import parse_worker_line
from forkserve.cli.worker import obey
from forkserve.config.launch import WorkerOptions
from forkserve.config.options import options_of, slices_of
from forkserve.config.serving import ServingOptions
from forkserve.config.values import boolean, integer
from forkserve.errors import ConfigError
from forkserve.suggest import nearest

__all__ = ["application", "serve", "words_of"]

application: Any = None
"""The application from PasteDeploy."""

_HERE = f"{__name__}:application"
_ADDRESSES = ("bind", "fd", "uds")


def serve(app: Any, global_conf: Mapping[str, str], **settings: str) -> None:
    """Serve an application until SIGTERM; called by PasteDeploy with the keys of the section.

    They are `host` (127.0.0.1), `port` (8080), `workers` (1), `app` (the name in the file, with several workers), and
    every option of forkserve-worker by its name.
    """
    code = ended("egg:forkserve", lambda: _serve(app, global_conf, dict(settings)))
    if code:
        raise SystemExit(code)


def _serve(app: Any, global_conf: Mapping[str, str], settings: dict[str, str]) -> int:
    global application
    workers = _count(settings.pop("workers", settings.pop("numprocesses", "1")))
    name = settings.pop("app", "")
    words = words_of(settings)
    if workers == 1:
        application = app
        return obey(parse_worker_line([*words, _HERE], os.environ))
    path = global_conf.get("__file__")
    if not path:
        raise ConfigError(
            "workers: several need the file, which PasteDeploy does not name: start forkserve --paste FILE"
        )
    file = path + (f"#{name}" if name else "")
    command = (sys.executable, "-m", "forkserve", "--workers", str(workers), *words, "--paste", file)
    sys.stdout.flush()
    return os.execv(command[0], command)


def words_of(settings: Mapping[str, str]) -> list[str]:
    """Return the arguments for a section; raises ConfigError."""
    declared = [each for cls in (WorkerOptions, ServingOptions) for part in slices_of(cls) for each in options_of(part)]
    known = {each.name: each for each in declared if each.cli}
    given = dict(settings)
    host, port = given.pop("host", "127.0.0.1"), given.pop("port", "8080")
    if not any(key in given for key in _ADDRESSES):
        given["bind"] = (
            host if host.startswith(("unix:", "fd://")) else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
    words = []
    for key, text in given.items():
        if key not in known:
            raise ConfigError(f"[server:main] {key}: unknown option{nearest(key, known)}")
        flag = next((each for each in known[key].cli if each.startswith("--")), known[key].cli[0])
        if known[key].parse is not boolean:
            words += [flag, text]
        elif _is_on(key, text):
            words.append(flag)
    return words


def _is_on(key: str, text: str) -> bool:
    try:
        return boolean(text)
    except ValueError as error:
        raise ConfigError(f"[server:main] {key}: {error}") from None


def _count(text: str) -> int:
    try:
        found = integer(text)
    except ValueError as error:
        raise ConfigError(f"[server:main] workers: {error}") from None
    if found < 1:
        raise ConfigError(f"[server:main] workers: must be at least 1, got {found}")
    return found
