"""What clients see of a pause, and of maintenance: no server of the field has either."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.harness.clients import errors_of
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Answer, Outcome
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.faults import Story, longest, under_load
from bench.harness.scenarios.groups import OURS
from bench.harness.scenarios.prefork import ANY, Prefork

__all__ = ["PAGE", "Pauses", "is_page", "lost"]

HELD = 1.0  # seconds of each
PAGE = b"<p>back in a minute</p>\n"


class Pauses(Prefork):
    """Both, one after the other, under load."""

    name = "pauses"
    title = "A pause and maintenance under load"
    question = (
        f"What do users see when new connections wait for {HELD:g} s (`forkservectl pause`, `resume`), and when a page "
        f"answers for {HELD:g} s (`maintenance on`, `off`)? 2 workers, 10 clients."
    )
    reading = (
        "`failed` counts what is answered neither by the application nor, from the order to begin maintenance until "
        "the one to end it is done, by its page with status 503. A paused client waits as long as the pause lasts; "
        "`longest wait beyond it` is the rest. No other server of this comparison has either."
    )
    metrics = (
        Metric("failed", "failed requests", "", Better.LOWER),
        Metric("wait_s", "longest wait beyond it", "s", Better.LOWER, 2),
        Metric("pages", "answered by the page", "", Better.HIGHER),
        Metric("back_s", "application answers again after", "s", Better.LOWER, 2),
    )
    baseline = "forkserve-sync"
    servers = short_servers = (*OURS, "forkserve-preload")
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, hold twice."""
        return 2 * HELD + 5.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Pause one server, then maintain it."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=2)
        page = launch.folder / "page.html"
        page.write_bytes(PAGE)
        with bench.ready(cell.server, launch, ANY) as running:
            values: dict[str, float] = {}

            async def tell(story: Story) -> None:
                await asyncio.sleep(0.5)
                values.update(await _pause(running, story))
                values.update(await _maintain(running, story, page))

            story = under_load(running, tell)
            found = [answer for answer in story.answers if not is_page(answer)]
            values["failed"] += sum(answer.outcome not in (Outcome.OK, Outcome.STALE) for answer in found)
            errors = errors_of((kind, sum(a.outcome is kind for a in found)) for kind in Outcome)
            return Sample(values, errors, ""), running.command


async def _pause(running: Running, story: Story) -> dict[str, float]:
    at = time.monotonic()
    await _order(running, "pause", "web", "--max", "20")
    await asyncio.sleep(HELD)
    await _order(running, "resume", "web")
    over = time.monotonic()
    await asyncio.sleep(0.5)
    return {"wait_s": max(longest(story.between(at, over)) - (over - at), 0.0)}


async def _maintain(running: Running, story: Story, page: Path) -> dict[str, float]:
    at = time.monotonic()
    await _order(running, "maintenance", "on", str(page))
    await asyncio.sleep(HELD)
    off = time.monotonic()
    await _order(running, "maintenance", "off")
    over = time.monotonic()
    await asyncio.sleep(0.5)
    pages = [answer for answer in story.answers if is_page(answer)]
    again = [a.at + a.took - off for a in story.between(off, time.monotonic()) if a.outcome is Outcome.OK]
    return {"failed": lost(pages, at, over), "pages": float(len(pages))} | ({"back_s": min(again)} if again else {})


async def _order(running: Running, *words: str) -> None:
    if code := await asyncio.to_thread(running.control, *words):
        raise BenchError(f"forkservectl {' '.join(words)} ended with exit code {code}")


def is_page(answer: Answer) -> bool:
    """Say whether it is the whole page, with the status of one."""
    return answer.status == 503 and answer.body == PAGE


def lost(pages: list[Answer], begun: float, over: float) -> float:
    """Count the pages that came at a time when the application should have answered."""
    return float(sum(not begun <= answer.at + answer.took or answer.at > over for answer in pages))
