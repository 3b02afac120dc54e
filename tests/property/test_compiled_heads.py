"""A head that C reads means what the reader in Python says it means; what Python refuses, C leaves to it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.fields import Collector, EnvironCollector, ScopeCollector
from forkserve.serving.native import hot
from tests.support.compiled_heads import Both
from tests.support.http_corpus import cases
from tests.support.http_driving import sliced
from tests.support.http_mutation import TOKENS, mutate
from tests.support.ready_queues import BothQueues

pytestmark = pytest.mark.skipif(hot is None, reason="forkserve goes without its compiled part here")
LIGHT = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEEDS = [case.raw for case in cases() if len(case.raw) < 2000]
COLLECTORS = [EnvironCollector, ScopeCollector]
BROWSER = (
    b"GET /articles/%d?page=%%20%d HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive\r\n"
    b"Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\nCookie:  session=%d; theme=dark \r\n"
    b"User-Agent: Mozilla/5.0\r\nUpgrade-Insecure-Requests: 1\r\nX-Request-ID: %d\r\n\r\n"
)


@pytest.fixture(scope="module", params=COLLECTORS, ids=["wsgi", "asgi"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    ways = Both(request.param)
    yield ways
    ways.close()


def test_what_browsers_send_is_taken_once_its_names_and_host_are_known(both: Both) -> None:
    both.learn(BROWSER % (0, 0, 0, 0))
    for number in range(3000):
        assert both.check(BROWSER % (number, number, number, number))


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"BREW", b"get"])
@pytest.mark.parametrize(
    "target", [b"/", b"/a?b=%41", b"/?", b"/a?b?c", b"//a", b"/%41", b"/a#b", b"*", b"http://h/a", b"/\xff"]
)
def test_request_lines_of_all_kinds_mean_the_same(both: Both, method: bytes, target: bytes) -> None:
    usual = method not in (b"BREW", b"get") and target in (b"/", b"/a?b=%41", b"/?", b"/a?b?c", b"//a")
    for version in (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1"):
        head = b"%s %s %s\r\nHost: h\r\nAccept: a\r\n\r\n" % (method, target, version)
        taken = [both.check(head) for _ in range(3)]
        assert taken[-1] == (usual and version == b"HTTP/1.1")


USUAL = (
    b"HOST: h\r\n",
    b"host:h\r\n",
    b"Host: H:80\r\n",
    b"Host: h\r\nAccept:\r\n",
    b"Connection: Keep-Alive\r\nHost: h\r\n",
    b"Host: h\r\nConnection: keep-alive\r\n",
    b"Host: h\r\nContent-Length: ",
    b"Host: h\r\nContent-Type: a/b\r\n",
    b"Host: h\r\nX-Forwarded-For: 1.2.3.4\r\n",
    b"Host: h\r\nCookie: aaa",
    b"Host: h\r\nX-0: 1\r\n",
)
"""How fields begin that C takes; and those that it takes under ASGI, where nothing has to be joined."""
TWICE = (
    b"Host: h\r\nAccept: a\r\nAccept: b\r\n",
    b"Host: h\r\nCookie: a\r\nCookie: b\r\n",
    b"Host: h\r\nX-A: 1\r\nx-a: 2\r\n",
    b"Host: h\r\nConnection: keep-alive\r\nConnection: keep-alive\r\n",
)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Host: h\r\nHost: h\r\n",
        b"HOST: h\r\n",
        b"host:h\r\n",
        b"Host: \r\n",
        b"Host: a b\r\n",
        b"Host: H:80\r\n",
        b"Host: h\r\nAccept: a\r\nAccept: b\r\n",
        b"Host: h\r\nCookie: a\r\nCookie: b\r\n",
        b"Host: h\r\nAccept:\r\n",
        b"Host: h\r\nAccept: \ta\t\r\n",
        b"Host: h\r\nAccept: \xe4\r\n",
        b"Host: h\r\nAccept : a\r\n",
        b"Host: h\r\nAccept\r\n",
        b"Host: h\r\n Accept: a\r\n",
        b"Host: h\r\nAccept: a\nDNT: 1\r\n",
        b"Host: h\r\nAccept: a\x00\r\n",
        b"Host: h\r\nX_A: 1\r\n",
        b"Host: h\r\nProxy: x\r\n",
        b"Host: h\r\nX-A: 1\r\nx-a: 2\r\n",
        b"Host: h\r\nConnection: keep-alive\r\n",
        b"Connection: Keep-Alive\r\nHost: h\r\n",
        b"Host: h\r\nConnection: close\r\n",
        b"Host: h\r\nConnection: KEEP-ALIVE\r\n",
        b"Host: h\r\nConnection: keep-alive\r\nConnection: keep-alive\r\n",
        b"Host: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Host: h\r\nContent-Length: 0\r\n",
        b"Host: h\r\nContent-Length: 3\r\n",
        b"Host: h\r\nTransfer-Encoding: chunked\r\n",
        b"Host: h\r\nContent-Type: a/b\r\n",
        b"Host: h\r\nExpect: 100-continue\r\n",
        b"Host: h\r\nX-Forwarded-For: 1.2.3.4\r\n",
        b"Host: h\r\nCookie: " + 300 * b"a" + b"\r\n",
        b"Host: h\r\n" + 101 * b"DNT: 1\r\n",
        b"Host: h\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(99)),
    ],
)
def test_fields_of_all_kinds_mean_the_same(both: Both, fields: bytes) -> None:
    usual = not both.python.collector.text_values if fields in TWICE else fields.startswith(USUAL)
    for end in (b"\r\n", b"\r\nGET", b"", b"\n"):
        taken = [both.check(b"GET / HTTP/1.1\r\n" + fields + end) for _ in range(4)]
        assert taken[-1] == (usual and end in (b"\r\n", b"\r\nGET"))


def test_a_head_over_a_limit_is_left_to_python() -> None:
    for collector in COLLECTORS:
        ways = Both(
            collector,
            HttpLimits(
                limit_request_fields=3, limit_request_field_size=40, limit_request_line=30, limit_request_head=80
            ),
        )
        head = b"GET /%s HTTP/1.1\r\nHost: h\r\n%s\r\n"
        for path, fields in (
            (b"", b""),
            (30 * b"a", b""),
            (b"", b"Accept: " + 40 * b"a" + b"\r\n"),
            (b"", 3 * b"DNT: 1\r\n"),
        ):
            for _ in range(3):
                ways.check(head % (path, fields))
        ways.close()


@given(st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join))
@LIGHT
def test_any_row_of_tokens_means_the_same(both: Both, raw: bytes) -> None:
    for _ in range(2):
        both.check(raw)


@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), st.integers(0, 2**32))
@LIGHT
def test_any_spoilt_request_means_the_same(both: Both, raw: bytes, other: bytes, seed: int) -> None:
    head = mutate(BROWSER % (1, 2, 3, 4) if seed % 2 else raw, other, random.Random(seed))
    for _ in range(2):
        both.check(head)


def test_every_case_of_the_corpus_means_the_same(both: Both) -> None:
    for case in cases():
        for _ in range(2):
            both.check(case.raw)


@pytest.mark.parametrize("collector", COLLECTORS)
def test_every_case_of_the_corpus_comes_to_the_same_by_both_ready_queues(collector: type[Collector]) -> None:
    queues = BothQueues(collector)
    for number, case in enumerate(cases()):
        for pieces in ([case.raw], [case.raw], [case.raw], list(sliced(case.raw, number))):
            queues.check(pieces[:200])
    queues.close()
