"""What a process uses, and the options of a watcher, in Circus's words.

Rules: pure. What the master does not know is "N/A", as in Circus.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from forkserve.config.streams import StreamOptions

__all__ = ["human_size", "info_of", "watcher_options"]

GONE = "No such process (stopped?)"

_FIXED: Mapping[str, str] = {
    "args": "args", "close_child_stderr": "close_child_stderr", "close_child_stdin": "close_child_stdin",
    "close_child_stdout": "close_child_stdout", "cmd": "cmd", "copy_env": "copy_env", "env": "env",
    "executable": "executable", "gid": "gid", "graceful_timeout": "graceful_timeout", "max_age": "max_age",
    "max_age_variance": "max_age_variance", "max_retry": "max_retry", "numprocesses": "numprocesses",
    "on_demand": "on_demand",
    "priority": "priority", "respawn": "respawn", "send_hup": "send_hup", "shell": "shell", "shell_args": "shell_args",
    "singleton": "singleton", "stop_children": "stop_children", "stop_signal": "stop_signal", "uid": "uid",
    "use_sockets": "use_sockets", "warmup_delay": "warmup_delay", "working_dir": "working_dir",
    "stdout_stream_conf": "stdout_stream", "stderr_stream_conf": "stderr_stream",
}  # fmt: skip
"""Circus's options of a watcher, and our names for them."""

_WHOLE = ("max_age", "max_age_variance")
"""Seconds that are whole numbers in Circus."""

_STREAM = asdict(StreamOptions()) | {"path": []}
"""The defaults of a stream, as JSON has them."""

_OURS = frozenset(
    (
        "autostart",
        "backoff",
        "backoff_max",
        "copy_path",
        "hooks",
        "name",
        "ready_after",
        "ready_timeout",
        "rlimits",
        "stdin_socket",
        "umask",
    )
)
"""Options that only forkserve has, or has in another form."""


def info_of(usage: Mapping[str, Any] | None, memory: int, *, process: Mapping[str, Any] | None = None) -> Any:
    """Return Circus's object about one process; `memory` is that of the machine in bytes.

    `process` is the report of one of the watcher's own, which also has `started` and `wid`.
    """
    if usage is None:
        return GONE
    born = time.time() - usage["age"]
    info = {
        "pid": usage["pid"],
        "cmdline": usage.get("program") or "N/A",
        "username": usage.get("user") or "N/A",
        "nice": usage["nice"],
        "cpu": usage["cpu"],
        "mem": round(100 * usage["memory"] / memory, 3),
        "mem_info1": human_size(usage["memory"]),
        "mem_info2": human_size(usage["virtual"]),
        "ctime": _minutes(usage["cpu_time"]),
        "create_time": born,
        "age": usage["age"],
        "children": [info_of(each, memory) for each in usage.get("children", ())],
        "pss": usage.get("pss"),
        "fds": usage.get("fds"),
        "threads": usage["threads"],
    }
    if process is not None:
        info |= {"started": time.time() - process["uptime"], "wid": process.get("circus_wid") or process["wid"]}
    return info


def human_size(count: int) -> str:
    """Return a size in Circus's form: `31.10M`, `812B`."""
    for power, unit in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if count >= 1024**power:
            return f"{count / 1024**power:.2f}{unit}"
    return f"{count}B"


def _minutes(seconds: float) -> str:
    whole, hundredths = divmod(round(seconds * 100), 100)
    return f"{whole // 60 % 60}:{whole % 60:02d}.{hundredths:02d}"


def _stream(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is set of a stream, by its names in a file."""
    found = {name: value for name, value in known.items() if name != "kind" and value != _STREAM.get(name)}
    return {"class": known["kind"], **found} if known else {}


def watcher_options(known: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return the options of a watcher as Circus lists them: its own by name, then the free keys.

    `folder` is that in which forkserve was started, where processes run without a `working_dir`.
    """
    options = {theirs: known[ours] for theirs, ours in _FIXED.items()}
    options["__name__"] = f"watcher:{known['name']}"
    options |= {name: int(options[name]) for name in _WHOLE}
    for stream in ("stdout_stream_conf", "stderr_stream_conf"):
        options[stream] = _stream(options[stream] or {})
    options["working_dir"] = options["working_dir"] or folder
    options |= {f"rlimit_{name.removeprefix('RLIMIT_').lower()}": value for name, value in known["rlimits"].items()}
    options |= {f"hooks.{name}": value for name, value in known["hooks"].items()}
    free = set(known) - set(_FIXED.values()) - _OURS
    options |= {name: known[name] for name in free}
    return dict(sorted(options.items()))
