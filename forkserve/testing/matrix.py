"""The conformance matrix as Markdown: backends by suites, and the meaning of each failure."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence

from forkserve.backends.registry import find, state_of
from forkserve.testing.client import Fault
from forkserve.testing.corpus import invalid_cases
from forkserve.testing.outcome import Outcome, SuiteReport
from forkserve.testing.running import SUITES

__all__ = ["markdown"]

_HEAD = """\
# Conformance

Written by `python -m forkserve.testing --markdown docs/conformance.md` (Python {python}, Linux): each backend that
could serve there, by the suites of `forkserve.testing`. A cell says how many checks passed, of how many. Servers of
others are measured as forkserve runs them, with the repairs of its adapters.

- **valid requests**: the corpus over a socket; each request is answered below 400, and the application got the very
  body that was sent.
- **invalid requests**: each is refused or cut off; none reaches the application. {framing} of them leave in doubt where
  a request ends: behind a proxy that sees the end elsewhere, serving one of these is request smuggling.
- **HTTP exchanges**: HEAD, keep-alive, pipelining, chunks both ways, 100-continue, 204, 304, bodies that break off.
- **PEP 3333**: an application under `wsgiref.validate`. **ASGI 3**: scope, lifespan, disconnect, WebSocket.
- **graceful stop**: a request in flight, idle connections, the queue between two workers.
"""
_EXAMPLES = 5
"""Number of failed checks shown by name for a suite; the rest are counted."""


def markdown(reports: Sequence[SuiteReport]) -> str:
    """Return the whole document."""
    framing = sum(case.area == "framing" for case in invalid_cases())
    head = _HEAD.format(python=_python(), framing=framing)
    return "\n".join([head, *_table(reports), "", "## What does not hold", "", *_details(reports)]).rstrip() + "\n"


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _rows(reports: Sequence[SuiteReport]) -> dict[tuple[str, str], dict[str, SuiteReport]]:
    rows: dict[tuple[str, str], dict[str, SuiteReport]] = {}
    for each in reports:
        rows.setdefault((each.backend, each.interface), {})[each.suite] = each
    return rows


def _table(reports: Sequence[SuiteReport]) -> Iterator[str]:
    suites = [name for name in SUITES if any(each.suite == name for each in reports)]
    yield "| backend | version | " + " | ".join(SUITES[name].title for name in suites) + " | danger |"
    yield "| --- | --- |" + " ---: |" * len(suites) + " --- |"
    for (backend, interface), row in _rows(reports).items():
        cells = [_cell(row.get(name)) for name in suites]
        danger = ", ".join(_dangers(row.values()))
        version = state_of(find(backend).traits).version or (_python() if backend == "wsgiref" else "ours")
        yield f"| `{backend}` ({interface}) | {version} | {' | '.join(cells)} | {danger} |"


def _cell(report: SuiteReport | None) -> str:
    if report is None:
        return ""
    total = len(report.outcomes)
    passed = total - len(report.failures)
    return f"{passed}/{total}" if passed < total else f"**{total}/{total}**"


def _dangers(reports: object) -> Iterator[str]:
    faults: Counter[Fault] = Counter()
    for report in reports:  # type: ignore[attr-defined]
        faults.update(each.fault for each in report.failures)
    for fault, text in ((Fault.SMUGGLING, "smuggling"), (Fault.LENIENT, "lenient"), (Fault.TRUNCATION, "truncation")):
        if faults[fault]:
            yield f"{text}: {faults[fault]}"


def _details(reports: Sequence[SuiteReport]) -> Iterator[str]:
    for (backend, interface), row in _rows(reports).items():
        failed = {name: report.failures for name, report in row.items() if report.failures}
        if not failed:
            continue
        yield f"### {backend} ({interface})"
        yield ""
        for name, failures in failed.items():
            yield f"{SUITES[name].title}, {len(failures)}:"
            yield ""
            yield from map(_line, failures[:_EXAMPLES])
            if len(failures) > _EXAMPLES:
                yield f"- and {len(failures) - _EXAMPLES} more"
            yield ""


def _line(outcome: Outcome) -> str:
    reason = outcome.reason.splitlines()[0][:100].replace("`", "'")
    return f"- {outcome.name.replace('`', chr(39))[:100]}: `{reason}`"
