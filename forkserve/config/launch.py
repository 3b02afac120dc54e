"""The options of `forkserve-worker` itself: the application, the sockets, the process; and all of them together.

Rules: as in `model.py`. Names are those of Chaussette, then of Gunicorn and Uvicorn; options of the same meaning share
a field. A flag that does something else than serve (`--list-backends`) belongs to the command, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from socket import AddressFamily, SocketKind

from forkserve.config.address import Address
from forkserve.config.options import option
from forkserve.config.serving import ServingOptions
from forkserve.config.values import (
    address,
    at_least,
    between,
    boolean,
    commas,
    family,
    integer,
    log_level,
    member,
    optional,
    socket_type,
)

__all__ = ["ApplicationOptions", "Interface", "ListenOptions", "ProcessOptions", "ReloadOptions", "WorkerOptions"]


class Interface(Enum):
    """The interface of an application."""

    AUTO = "auto"
    WSGI = "wsgi"
    ASGI = "asgi"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationOptions:
    """The application, and where it is found."""

    application: str | None = option(
        None,
        "module:attr, module:attr.sub, module:factory(), module, package.module.attr, path/to/file.py[:attr], "
        "paste:FILE.ini[#name] or FILE.ini[#name].",
        metavar="APPLICATION",
    )
    arguments: tuple[str, ...] = option(
        (), "Words after the application, passed to it in sys.argv; `chaussette` only.", metavar="WORD", many=True
    )
    factory: bool = option(
        False, "The attribute is a factory: call it to get the application.", parse=boolean, cli=("--factory",)
    )
    interface: Interface = option(
        Interface.AUTO,
        "Interface of the application.",
        parse=member(Interface),
        cli=("--interface",),
        choices=("auto", "wsgi", "asgi"),
    )
    python_path: tuple[str, ...] = option(
        (),
        "Folders to import modules from, before all others; comma-separated.",
        parse=commas,
        cli=("--python-path", "--pythonpath", "--app-dir"),
        metavar="DIR",
    )
    chdir: str | None = option(
        None, "Change to this folder before anything is imported.", cli=("--chdir",), metavar="DIR"
    )
    config: str | None = option(
        None, "PasteDeploy file with the application.", cli=("--config", "--paste", "--paster"), metavar="FILE.ini"
    )
    preload: bool = option(
        False,
        "Under a master: import the application once, in a zygote that forks the workers.",
        parse=boolean,
        cli=("--preload", "--preload-app"),
    )
    before_fork: str | None = option(
        None,
        "Callable run in the zygote before each fork; gets the options.",
        cli=("--before-fork",),
        metavar="MODULE:CALLABLE",
    )
    after_fork: str | None = option(
        None,
        "Callable run in each worker forked from a zygote; gets the options.",
        cli=("--after-fork",),
        metavar="MODULE:CALLABLE",
    )
    pre_hook: str | None = option(
        None, "Callable run before serving; gets the options.", cli=("--pre-hook",), metavar="MODULE:CALLABLE"
    )
    post_hook: str | None = option(
        None,
        "Callable run after serving, also after INT; gets the options.",
        cli=("--post-hook",),
        metavar="MODULE:CALLABLE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Listening sockets: inherited, or bound by the worker."""

    fd: tuple[str, ...] = option(
        (),
        "Number of an inherited listening socket, as '$(circus.sockets.NAME)' gives it; repeatable.",
        cli=("--fd",),
        metavar="N",
        many=True,
    )
    bind: tuple[Address, ...] = option(
        (),
        "Listen at HOST:PORT, [::]:PORT, :PORT, unix:PATH or fd://N, without a master; repeatable.",
        parse=address,
        cli=("-b", "--bind"),
        metavar="ADDRESS",
        many=True,
    )
    host: str | None = option(None, "Host, unix:PATH or fd://N to listen at.", cli=("--host",), metavar="HOST")
    port: int | None = option(
        None, "Port to listen at; 8000 if not given.", parse=integer, check=between(0, 65535), cli=("-p", "--port"),
        env="PORT", metavar="PORT",
    )  # fmt: skip
    uds: str | None = option(None, "Path of a unix socket to listen at.", cli=("--uds",), metavar="PATH")
    backlog: int = option(
        2048, "Connections that may wait to be accepted.", parse=integer, check=at_least(1), cli=("--backlog",),
        metavar="N",
    )  # fmt: skip
    address_family: AddressFamily | None = option(
        None,
        "Checked against the socket, which sets it.",
        parse=optional(family),
        cli=("--address-family",),
        choices=("AF_INET", "AF_INET6", "AF_UNIX"),
    )
    socket_type: SocketKind | None = option(
        None, "Checked against the socket, which sets it.", parse=optional(socket_type),
        cli=("--socket-type",), metavar="SOCK_STREAM",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadOptions:
    """Restart when a file changes, for development."""

    use_reloader: bool = option(
        False, "Restart when a source file changes.", parse=boolean, cli=("--use-reloader", "--reload")
    )
    reload_dir: tuple[str, ...] = option(
        (), "Folder to watch besides the imported modules; repeatable.", cli=("--reload-dir",), metavar="DIR", many=True
    )
    reload_extra_file: tuple[str, ...] = option(
        (), "File to watch besides the imported modules; repeatable.", cli=("--reload-extra-file",), metavar="FILE",
        many=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """The worker process: backend, interpreter, log."""

    backend: str | None = option(
        None,
        "Backend; see --list-backends. By default it depends on the interface of the application.",
        cli=("-k", "--backend", "--worker-class"),
        metavar="NAME",
    )
    no_monkey: bool = option(
        False, "Do not patch the standard library for backends that want it.", parse=boolean, cli=("--no-monkey",)
    )
    python: str | None = option(
        None,
        "Serve under another interpreter; forkserve need not be installed there.",
        cli=("--python",),
        metavar="PATH",
    )
    log_level: str = option(
        "info", "Least severe messages to log.", parse=log_level, cli=("--log-level",),
        choices=("debug", "info", "warning", "error", "critical"),
    )  # fmt: skip
    log_output: str = option(
        "-",
        "Where to log: - (stderr), a file, or syslog://HOST[:PORT].",
        cli=("--log-output", "--log-file", "--error-logfile"),
        metavar="WHERE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """All options of a worker; `given` has those that were given, by name, with their flags."""

    application: ApplicationOptions = field(default_factory=ApplicationOptions)
    listen: ListenOptions = field(default_factory=ListenOptions)
    process: ProcessOptions = field(default_factory=ProcessOptions)
    reload: ReloadOptions = field(default_factory=ReloadOptions)
    serving: ServingOptions = field(default_factory=ServingOptions)
    given: Mapping[str, str] = field(default_factory=dict)
