"""What must hold for every input, however hostile. Used by the property tests and by the fuzzer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.fields import EnvironCollector, ScopeCollector
from forkserve.serving.http.llhttp import LlhttpFields
from forkserve.serving.http.pure import H11Fields
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile
from tests.support.http_driving import Outcome, drive, sliced

__all__ = ["check_invariants"]


def check_invariants(raw: bytes, seed: int = 0) -> Outcome:
    """Raises AssertionError, or whatever the parser let escape besides a Refusal."""
    outcome = drive(Profile(HttpLimits(), ScopeCollector, RememberedFields), [raw])
    assert_is_sound(outcome)
    same_in_pieces(raw, outcome, sliced(raw, seed))
    pure = drive(Profile(HttpLimits(), ScopeCollector, H11Fields), [raw])
    assert pure == outcome, f"parsers differ on {raw!r}"
    environ = drive(Profile(HttpLimits(), EnvironCollector, RememberedFields), [raw])
    assert (environ.refusal, environ.waiting, environ.rest) == (outcome.refusal, outcome.waiting, outcome.rest)
    warm = Profile(HttpLimits(), ScopeCollector, RememberedFields)
    for _ in range(3):
        assert drive(warm, [raw]) == outcome, "an outcome depends on what came before"
    return outcome


def same_in_pieces(raw: bytes, whole: Outcome, pieces: Iterable[bytes]) -> None:
    outcome = drive(Profile(HttpLimits(), ScopeCollector, LlhttpFields), pieces)
    assert (outcome.served, outcome.refusal, outcome.waiting) == (whole.served, whole.refusal, whole.waiting), repr(raw)


def assert_is_sound(outcome: Outcome) -> None:
    """No request that was served has a trace of an attack in it."""
    assert outcome.refusal in (None, 400, 413, 414, 417, 421, 431, 501, 505)
    for request in outcome.served:
        names = [name for name, _ in request.headers]
        assert names.count("host") == (request.host is not None)
        assert not ("content-length" in names and "transfer-encoding" in names)
        assert "proxy" not in names
        assert not any("_" in name for name in names)
        text = "".join(name + value for name, value in request.headers) + request.target + request.method
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text)
        assert request.length is None or len(request.body) == request.length
    for request in outcome.served[:-1]:
        assert request.keep_alive
        assert request.upgrade is None
