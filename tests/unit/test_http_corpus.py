"""The corpus against both parsers and both shapes of headers: whole, byte by byte, in random slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

import h11
import pytest

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.fields import Collector, EnvironCollector, ScopeCollector
from forkserve.serving.http.llhttp import LlhttpFields
from forkserve.serving.http.pure import H11Fields
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import FieldReader, Profile
from tests.support.http_corpus import Case, cases, valid_cases
from tests.support.http_driving import Outcome, bytewise, drive, sliced

Parser = Callable[[Collector], FieldReader]
PARSERS: list[Parser] = [partial(RememberedFields, short=0), LlhttpFields, H11Fields]
WAYS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "whole": lambda raw: [raw],
    "bytewise": bytewise,
    "slices-1": lambda raw: sliced(raw, 1),
    "slices-2": lambda raw: sliced(raw, 2),
}


def outcome_of(case: Case, way: str, parser: Parser, collector: type[Collector] = ScopeCollector) -> Outcome:
    return drive(Profile(HttpLimits(), collector, parser), WAYS[way](case.raw))


@pytest.mark.parametrize("case", cases(), ids=str)
def test_case_comes_to_what_the_corpus_says(case: Case) -> None:
    for parser in PARSERS:
        for way in WAYS:
            outcome = outcome_of(case, way, parser)
            served = [asdict(request) for request in outcome.served]
            assert (outcome.refusal, outcome.waiting) == (case.refusal, case.incomplete), (parser, way)
            assert len(served) == len(case.served), (parser, way)
            for request, facts in zip(served, case.served, strict=True):
                assert {name: request[name] for name in facts} == facts, (parser, way)
    for collector in (EnvironCollector, ScopeCollector):
        one, two, three = (outcome_of(case, "whole", parser, collector) for parser in PARSERS)
        assert one == two == three


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_environ_holds_the_fields_of_the_scope(case: Case) -> None:
    scopes = outcome_of(case, "whole", LlhttpFields, ScopeCollector).served
    environs = outcome_of(case, "whole", LlhttpFields, EnvironCollector).served
    for scope, environ in zip(scopes, environs, strict=True):
        expected: dict[str, str] = {}
        for name, value in scope.headers:
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
            joint = "; " if key == "HTTP_COOKIE" else ","
            expected[key] = expected[key] + joint + value if key in expected else value
        assert environ.headers == expected


NOT_FOR_H11 = {
    "chunk extension: \\s;\\sa\\s=\\sb": "h11 takes no white space in extensions; RFC 9112 section 7.1.1 has it (BWS)",
    "one empty line before": "h11 tolerates none; RFC 9112 section 2.2 asks for one",
}


@pytest.mark.parametrize("case", [case for case in valid_cases() if len(case.served) == 1], ids=str)
def test_h11_alone_reads_valid_requests_as_we_do(case: Case) -> None:
    ours = outcome_of(case, "whole", LlhttpFields).served[0]
    if case.name in NOT_FOR_H11 or "higher minor version" in case.name:
        return  # of which h11 says that it knows 1.0 and 1.1 only
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(case.raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = bytearray()
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert request.method.decode() == ours.method
    assert request.target.decode() == ours.target
    assert request.http_version.decode() == ours.version
    assert body.decode("latin-1") == ours.body
    assert [name for name, _ in event.headers if b"_" not in name and not name.startswith(b"content-")] == [
        n.encode() for n, _ in ours.trailers
    ]


def test_corpus_is_large_and_names_its_sources() -> None:
    assert len(cases()) >= 300
    assert all(case.rfc.startswith("RFC ") for case in cases())
    assert len({case.name for case in cases()}) == len(cases())
