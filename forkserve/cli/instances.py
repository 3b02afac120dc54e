"""Which forkserve to control, when several run: by its name, by its configuration, or the only one there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkserve.cli.tables import render
from forkserve.control.client import ControlClient
from forkserve.control.place import find, live_sockets
from forkserve.control.printable import printable_answer
from forkserve.errors import ControlError

__all__ = ["chosen"]

MOST_SHOWN = 4
"""Watchers of one forkserve that are named in a list of several."""
PATIENCE = 2.0
"""Seconds that each of several has to answer with its name."""


def chosen(name: str | None, configuration: str | None) -> Path:
    """Return the control socket of the chosen forkserve; raises ControlError with a list of those that run."""
    if configuration is not None:
        return find(configuration)
    sockets = live_sockets()
    if not sockets:
        what = (
            "no forkserve is running here" if name is None else f"no forkserve is called {name!r}: none is running here"
        )
        raise ControlError(f"{what}; name its socket with --socket PATH if it is elsewhere")
    if name is None and len(sockets) == 1:
        return sockets[0]
    known = [(path, _asked(path)) for path in sockets]
    named = [path for path, version in known if name is not None and version.get("name") == name]
    if len(named) == 1:
        return named[0]
    problem = "several forkserve are running" if name is None else f"no forkserve is called {name!r}"
    if named:
        problem = f"several forkserve are called {name!r}"
    raise ControlError(f"{problem}; say which by -n NAME, -c FILE or --socket PATH:\n{_listed(known)}")


def _asked(path: Path) -> dict[str, Any]:
    """Ask a master for its name, and what it runs; one that does not answer is listed by its socket alone."""
    try:
        with ControlClient(path, timeout=PATIENCE) as client:
            answer, watchers = client.call("version"), client.call("list")
    except ControlError:
        return {}
    known = isinstance(answer, dict) and isinstance(watchers, list)
    return printable_answer({**answer, "watchers": watchers}) if known else {}


def _listed(known: list[tuple[Path, dict[str, Any]]]) -> str:
    rows = [
        [
            version.get("name") or "-",
            str(version.get("pid", "-")),
            str(version.get("source", "-")),
            _some(version.get("watchers", [])),
            str(path),
        ]
        for path, version in known
    ]
    return render(["NAME", "PID", "RUNS", "WATCHERS", "SOCKET"], rows, right={1})


def _some(watchers: list[str]) -> str:
    """Return the first watchers, and how many more there are: it is a line of a table."""
    shown = watchers[:MOST_SHOWN]
    more = len(watchers) - len(shown)
    return (", ".join(shown) or "-") + (f" and {more} more" if more else "")
