"""Which programs run beside the master, and how they are called: those that the configuration asks for.

Rules: it asks only whether a package is installed; a missing one is reported when the configuration is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from forkserve.config.model import MasterOptions

__all__ = ["WantedSidecar", "socket_path", "wanted_sidecars"]

DEFAULT_STATS = "tcp://127.0.0.1:5557"
"""Where `statsd` publishes without a stats_endpoint, as in Circus."""


@dataclass(frozen=True, slots=True)
class WantedSidecar:
    """One program: its displayed name, the module to run, its arguments, and the option that asks for it.

    `files` are the sockets that it creates in the file system, `owner` their user if that is another than ours.
    """

    name: str
    module: str
    words: tuple[str, ...]
    option: str
    files: tuple[str, ...] = ()
    owner: str | None = None


def wanted_sidecars(options: MasterOptions, control: Path | None) -> Iterator[WantedSidecar]:
    """Return the programs that are requested and available; `control` is the control socket."""
    common = {"--control": str(control), "--log-level": options.loglevel, "--log-output": options.logoutput}
    stats = options.stats_endpoint or (DEFAULT_STATS if options.statsd else None)
    if (options.endpoint or options.pubsub_endpoint or stats) and find_spec("zmq") is not None:
        flags = {
            **common,
            "--endpoint": options.endpoint,
            "--pubsub": options.pubsub_endpoint,
            "--stats": stats,
            "--owner": options.endpoint_owner,
        }
        addresses = (options.endpoint, options.pubsub_endpoint, stats)
        files = tuple(path for each in addresses if each is not None and (path := socket_path(each)) is not None)
        words, owner = _words(flags), options.endpoint_owner
        yield WantedSidecar("circus endpoint", "forkserve.sidecars.circus", words, "endpoint", files, owner)
    if options.control_bind:
        flags = {
            **common,
            "--bind": options.control_bind,
            "--token": options.control_token,
            "--certfile": options.control_certfile,
            "--keyfile": options.control_keyfile,
        }
        hosts = tuple(word for name in options.control_hosts for word in ("--host", name))
        yield WantedSidecar("control gateway", "forkserve.sidecars.gateway", _words(flags) + hosts, "control_bind")


def socket_path(endpoint: str) -> str | None:
    """Return the path of the file of a ZeroMQ address; None if it has none, or one that libzmq chooses and removes."""
    path = endpoint.removeprefix("ipc://")
    return None if path == endpoint or path == "*" or path.startswith("@") else path


def _words(flags: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(word for flag, value in flags.items() if value is not None for word in (flag, value))
