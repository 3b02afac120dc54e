"""Runs the suites over a backend: one worker for each suite, restarted whenever a check has killed it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from forkserve.backends.base import Interface
from forkserve.backends.registry import find
from forkserve.testing.client import Failed
from forkserve.testing.exchanges import exchanges
from forkserve.testing.interfaces import asgi_checks, wsgi_checks
from forkserve.testing.outcome import Check, Outcome, SuiteReport
from forkserve.testing.requests import invalid_requests, valid_requests
from forkserve.testing.stopping import stops
from forkserve.testing.worker import WorkerUnderTest, listening

__all__ = ["SUITES", "Suite", "check_backend", "run_suite"]


@dataclass(frozen=True, slots=True)
class Suite:
    """Checks of one kind. `attribute` is the application that they need; `interface` None means both."""

    title: str
    checks: Callable[[], Iterator[Check]]
    attribute: str = ""
    interface: Interface | None = None


SUITES: Mapping[str, Suite] = {
    "valid": Suite("valid requests", valid_requests),
    "invalid": Suite("invalid requests", invalid_requests),
    "http": Suite("HTTP exchanges", exchanges),
    "wsgi": Suite("PEP 3333", wsgi_checks, "validated", Interface.WSGI),
    "asgi": Suite("ASGI 3", asgi_checks, "asgi", Interface.ASGI),
    "stop": Suite("graceful stop", stops),
}


def check_backend(name: str, *, suites: tuple[str, ...] = tuple(SUITES)) -> list[SuiteReport]:
    """Run the suites over a backend under each of its interfaces; raises UsageError if there is no such backend."""
    interfaces = sorted(find(name).traits.interfaces, key=lambda each: each.value)
    return [
        run_suite(name, interface, each)
        for interface in interfaces
        for each in suites
        if SUITES[each].interface in (None, interface)
    ]


def run_suite(backend: str, interface: Interface, name: str) -> SuiteReport:
    """Run one suite of `SUITES` over its own worker."""
    suite = SUITES[name]
    with contextlib.closing(listening()) as listener:
        worker = WorkerUnderTest(backend, interface, attribute=suite.attribute, listener=listener)
        try:
            worker.ask("/counted")
            outcomes = [_outcome(worker, check) for check in suite.checks()]
        except Failed as failed:
            outcomes = [Outcome("the worker serves", str(failed))]
        finally:
            worker.stop()
    return SuiteReport(backend, interface.value, name, tuple(outcomes))


def _outcome(worker: WorkerUnderTest, check: Check) -> Outcome:
    try:
        check.run(worker)
    except Failed as failed:
        outcome = Outcome(check.name, str(failed), failed.fault)
    except Exception as error:  # noqa: BLE001 - the fault barrier of one check: whatever a server does is an outcome
        outcome = Outcome(check.name, f"{type(error).__name__}: {error}")
    else:
        return Outcome(check.name)
    if not worker.alive():
        outcome = Outcome(check.name, f"the worker died: {outcome.reason}", outcome.fault)
        worker.restart()
    return outcome
