"""Eight kinds of broken code, each deployed under load."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from bench.harness.clients import errors_of
from bench.harness.context import Bench
from bench.harness.model import Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Answer, Outcome
from bench.harness.running import APPS, Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.faults import SOURCE, Story, failed, under_load, until
from bench.harness.scenarios.groups import RIVALS
from bench.harness.scenarios.prefork import ANY, Prefork
from bench.harness.servers import named

__all__ = ["KINDS", "BrokenDeploys"]

WATCHED = 2.5  # seconds of load after the reload
LINK = "current"
CANARY = ("reload", "web", "--canary", "1", "--watch", "2")
ANSWER = """
served = []
def answers(*_):
    served.append({served})
    {then}
    return 200, BODY
"""
GOOD = ANSWER.format(served="0", then="pass")
# In place of the line that is broken, or of what answers: what only requests find, a reload by itself cannot know.
AT_IMPORT = {
    "import error": "import nothing_of_this_name",
    "factory raises": "def make():\n    raise RuntimeError('no database')\nmake()",
    "exits": "import os\nos._exit(7)",
    "hangs in import": "threading.Event().wait(60)",
    "never ready": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
}
AT_REQUESTS = {
    "crashes on the first request": ANSWER.format(served="0", then="import os; os._exit(7)"),
    "leaks 200 MB": ANSWER.format(served="b'x' * 10_000_000 if len(served) < 20 else 0", then="pass"),
    "5xx": ANSWER.format(served="0", then="return 500, b'sorry'"),
}
KINDS = (*AT_IMPORT, *AT_REQUESTS)
APPLICATION = """
{answers}
def wsgi(environ, start_response):
    status, body = answers()
    start_response(f"{{status}} -", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    status, body = answers()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({{"type": "http.response.start", "status": status, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


class BrokenDeploys(Prefork):
    """Deploy each kind to a server that was started for it."""

    name = "broken-deploys"
    title = "Broken deploys of eight kinds"
    question = (
        "What do users see when broken code is deployed: code that cannot be imported, that hangs or exits, or that "
        f"fails only at a request? 2 workers, 10 clients, a fresh server for each kind, watched for {WATCHED:g} s."
    )
    reading = (
        "`old code serves on`: at the end all answers are right and come from the old code. Each kind is loaded by the "
        "server's own reload. The last three kinds show only at a request; forkserve loads them by "
        f"`forkservectl {' '.join(CANARY)}`, which the other servers do not have. Requests that fail on the canary "
        "are counted. Gunicorn with preload loads no new code by HUP, bad or good. A request that hangs counts as "
        "failed after 5 s."
    )
    metrics = (
        Metric("survived", f"old code serves on, of {len(KINDS)}", "", Better.HIGHER),
        Metric("failed", "failed requests, at import", "", Better.LOWER),
        *(Metric(kind, kind, "failed", Better.LOWER) for kind in KINDS),
    )
    servers = short_servers = RIVALS
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, deploy and watch, eight times."""
        return len(KINDS) * (WATCHED + 1.7)

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Deploy all kinds to one server."""
        values = dict.fromkeys(("survived", "failed"), 0.0)
        seen: list[Answer] = []
        lost: list[str] = []
        for kind in KINDS:
            answers, serves, command = deploy(self, cell.server, bench, kind)
            values[kind] = float(failed(answers))
            values["survived"] += serves
            values["failed"] += failed(answers) if kind in AT_IMPORT else 0
            if not serves:
                lost.append(kind)
            seen += answers
        errors = errors_of((each, sum(a.outcome is each for a in seen)) for each in Outcome)
        return Sample(values, errors, f"lost to: {', '.join(lost)}" if lost else ""), command


def deploy(scenario: Prefork, server: str, bench: Bench, kind: str) -> tuple[list[Answer], bool, str]:
    """Deploy one kind under load; return the answers from then on, whether the old code serves on, and the command."""
    launch = scenario.launch(bench, server, "deployed:{}", workers=2)
    launch = replace(launch, release=str(launch.folder / LINK))
    release(launch.folder, "one")
    with bench.ready(server, launch, ANY, PYTHONPATH=f"{launch.release}:{APPS}") as running:
        times: list[float] = []

        async def tell(story: Story) -> None:
            await asyncio.sleep(0.3)
            release(launch.folder, "two", kind)
            times.append(time.monotonic())
            task = asyncio.create_task(asyncio.to_thread(bring_in, running, kind))
            await asyncio.sleep(WATCHED)
            await task
            await until(lambda: not running.alive, 1.0)
            times.append(time.monotonic())

        story = under_load(running, tell)
        latest = story.between(times[1] - 0.4, times[1])
        serves = bool(latest) and all(a.outcome is Outcome.OK and a.body == b"one" for a in latest)
        return story.between(times[0], times[1] + 60), serves and running.alive, running.command


def bring_in(running: Running, kind: str) -> None:
    """Load the code: behind a canary where there is such a thing, and the kind needs it."""
    if kind in AT_REQUESTS and named(running.server.name).role == "ours":
        running.control(*CANARY)
    else:
        running.reload()


def release(folder: Path, version: str, kind: str = "") -> None:
    """Write a release of good code, or of broken code of that kind, and let the link lead to it."""
    start = SOURCE.partition("def wsgi")[0].format(seconds=0.1, broken=AT_IMPORT.get(kind, ""), version=version)
    (folder / version).mkdir()
    (folder / version / "deployed.py").write_text(start + APPLICATION.format(answers=AT_REQUESTS.get(kind, GOOD)))
    new = folder / "new"
    new.symlink_to(version)
    new.replace(folder / LINK)
