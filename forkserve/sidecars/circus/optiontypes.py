"""The types that Circus requires for the options of `set` and `add`; options that only forkserve has may be of any.

Rules: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forkserve.sidecars.circus.protocol import MessageRefused

__all__ = ["checked"]


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_INTEGER = (_is(int), "isn't an integer")
_NUMBER = (_is(int, float), "isn't a number")
_TRUTH = (_is(bool), "isn't a valid boolean")
_NAME = (_is(int, str), "isn't an integer or string")

_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("numprocesses", "max_retry", "max_age", "max_age_variance", "stop_signal"), _INTEGER),
    **dict.fromkeys(("warmup_delay", "retry_in", "graceful_timeout"), _NUMBER),
    **dict.fromkeys(("uid", "gid"), _NAME),
    **dict.fromkeys(("send_hup", "shell", "copy_env", "respawn", "stop_children"), _TRUTH),
    **dict.fromkeys(("close_child_stdin", "close_child_stdout", "close_child_stderr"), _TRUTH),
}


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options; raises MessageRefused for a value of the wrong type."""
    for key, value in options.items():
        fits, problem = _TYPES.get(key, (_anything, ""))
        if not fits(value):
            raise MessageRefused(f"{key!r} {problem}")
        if key == "env":
            _check_env(value)
        elif key in ("stdout_stream", "stderr_stream") and not (isinstance(value, dict) and "class" in value):
            raise MessageRefused(f"{key!r} must be an object with a 'class' key")
        elif key == "hooks" and not isinstance(value, dict):
            raise MessageRefused(f"{value!r} isn't a valid hook dict")
        elif key.startswith("rlimit_") and not isinstance(value, int | None):
            raise MessageRefused(f"{value!r} rlimit value isn't a valid int")
    return dict(options)


def _anything(_value: Any) -> bool:
    return True


def _check_env(env: Any) -> None:
    if not isinstance(env, dict):
        raise MessageRefused("'env' isn't a valid object")
    for name, value in env.items():
        if not isinstance(value, str):
            raise MessageRefused(f"{name!r} isn't a string")
