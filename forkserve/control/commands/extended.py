"""What the hook extended_stats of a watcher adds to the figures of its processes.

Rules: it is called for each process in turn; a process for which it fails has no additions, and `hook.failed` reports
it.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import partial
from typing import Any

import msgspec

from forkserve.control.commands.context import Context, Later, Steps
from forkserve.control.schema.reports import ProcessReport, WatcherReport
from forkserve.errors import UnknownNameError
from forkserve.supervision.hooks.call import HookAnswer
from forkserve.supervision.hooks.gate import HookGate

__all__ = ["extended"]

_TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def extended(context: Context, steps: Steps) -> Steps:
    """Return the reports that the steps return, with the additions of hooks."""
    reports: list[WatcherReport] = yield from steps
    found = []
    for report in reports:
        try:
            gate = context.master.supervisor.queue(report.name).watcher.gate
        except UnknownNameError:
            continue
        if "extended_stats" in gate.hooks:
            processes = []
            for process in report.processes:
                processes.append((yield from _extended(gate, process)))
            report = msgspec.structs.replace(report, processes=processes)
        found.append(report)
    return found


def _extended(gate: HookGate, process: ProcessReport) -> Generator[Later, Any, ProcessReport]:
    stats = {
        "pid": process.pid,
        "wid": process.wid,
        "cpu": process.cpu,
        "mem": None if process.memory is None else round(100 * process.memory / _TOTAL, 3),
        "memory": process.memory,
        "age": process.uptime,
    }
    answer: HookAnswer = yield Later(partial(gate.ask_stats, pid=process.pid, stats=stats))
    changed = {key: value for key, value in (answer.stats or {}).items() if stats.get(key, ...) != value}
    return msgspec.structs.replace(process, extended=changed)
