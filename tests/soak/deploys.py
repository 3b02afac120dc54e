"""Broken deploys of eight kinds, one after another: the old code serves on, in one generation."""

from __future__ import annotations

from pathlib import Path

from tests.soak.row import Result, Scale
from tests.support.forkserving import eventually
from tests.system.test_canary import ALLOWED, BROKEN, GOOD, Clients, Place, address_of, ask, deployed, is_one_generation

__all__ = ["deploys"]

LEAK = 20_000_000
"""Bytes that an answer leaves behind, up to 1 GB."""
LEAKING = f"""
kept = []
def app(environ, start):
    if len(kept) < 50:
        kept.append(b"x" * {LEAK})
    start("200 OK", [("Content-Length", "2")])
    return [b"r{{number}}"]
"""
KINDS = {**BROKEN, "leaks": (LEAKING, BROKEN["leaks"][1])}
SHARE = 0.65
"""Of the requests while a canary of one process in three is tried: half where it has one of two processors alone and
the others share one, but less than two processes of three would take.
"""


def deploys(folder: Path, scale: Scale, variant: str) -> Result:
    """Bring in broken code again and again under load; raises AssertionError."""
    place = Place(folder)
    place.release(GOOD)
    more = f"canary_memory = 1.5\ncanary_requests = 30\npreload = {variant == 'preload'}"
    failed = 0
    with deployed(place, ready_timeout=6, more=more) as server:
        server.allow(*ALLOWED)
        address = address_of(server)
        with Clients(address) as clients:
            for number in range(scale.deploys):
                failed += _deploy(place, clients, list(KINDS)[number % len(KINDS)])
                server.expect("reload of web failed")  # a log that nobody reads would hold the workers up
        assert {ask(address) for _ in range(50)} == {("200", "r1")}
    asked = clients.seen.total()
    return Result(asked, failed, f"{scale.deploys} broken deploys; all that failed was answered by canaries")


def _deploy(place: Place, clients: Clients, kind: str) -> int:
    """Try one; return how many requests its canary has cost."""
    text, words = KINDS[kind]
    before, failed = clients.seen.copy(), clients.failed
    place.release(text)
    done = place.ctl("reload", "web", *words)
    assert (done.returncode, done.stdout) == (1, ""), f"{kind}: {done.stdout}{done.stderr}"
    assert "reload of web failed" in done.stderr, f"{kind}: {done.stderr}"
    try:
        eventually(lambda: is_one_generation(place, 3))
    except AssertionError:
        raise AssertionError(
            f"{kind}: not three ready processes of one generation: {place.ctl('status').stdout}"
        ) from None
    seen, failed = clients.seen - before, clients.failed - failed
    asked = seen.total()
    allowed = SHARE * asked if words else 0
    assert failed <= allowed, f"{kind}: {failed} of {asked} requests failed"
    served = {release for status, release in seen if status == "200"}
    assert served == {"r1"} or words, f"{kind}: {served} have answered"
    return failed
