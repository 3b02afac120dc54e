"""What the harness reads from wrk and from servers: results, heads, bodies, lengths."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bench.harness import wrk
from bench.harness.clients import Crowd, Plan, drive
from bench.harness.context import Checked
from bench.harness.model import BenchError
from bench.harness.probe import NUMBER, Outcome, Request, complete, decode_chunks, judge, parse_head
from bench.harness.scenarios.throughput import sample_of
from bench.harness.target import Launch

OUTPUT = (
    "Running 2s test @ http://127.0.0.1:1/\nRequests/sec:  50000.00\n"
    "BENCH requests=100000 duration_us=2000000 bytes=15000000 connect=0 read=3 write=0 status=7 timeout=1 "
    "p50=500 p90=900 p99=2000 max=9000\n"
)


def checked(size: int) -> Checked:
    crowd = Crowd(Launch("", Path()), Plan(Request()))
    crowd.outcomes[Outcome.OK] += 1
    crowd.sizes[size] += 1
    return Checked(crowd)


def test_wrks_line_is_read_in_seconds() -> None:
    result = wrk.parse(OUTPUT)
    assert (result.requests, result.seconds, result.rate, result.size) == (100_000, 2.0, 50_000.0, 150.0)
    assert (result.p50, result.p99, result.worst) == (0.0005, 0.002, 0.009)


def test_wrks_errors_keep_their_names() -> None:
    assert wrk.parse(OUTPUT).errors == {"read": 3, "wrong status": 7, "no answer in time": 1}


def test_a_wrk_that_did_not_finish_is_an_error_with_its_words() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_answers_of_another_length_are_counted_as_errors() -> None:
    result = wrk.parse(OUTPUT)
    assert "answers of another length" not in sample_of(result, 1.0, checked(150), connections=64).errors
    assert sample_of(result, 1.0, checked(100), connections=64).errors["answers of another length"] == 49_936


def test_who_answers_nothing_has_a_rate_of_zero_and_no_times() -> None:
    result = wrk.parse(OUTPUT.replace("requests=100000", "requests=0"))
    assert sample_of(result, 1.0, checked(150), connections=64).values == {"rate": 0.0, "client_cpu": 0.0}


def test_answers_under_way_at_the_end_are_not_taken_for_wrong_ones() -> None:
    result = wrk.parse(OUTPUT.replace("requests=100000", "requests=14").replace("bytes=15000000", "bytes=15700000"))
    assert "answers of another length" not in sample_of(result, 1.0, checked(1_000_000), connections=4).errors


def test_answers_may_differ_in_length_as_those_that_were_checked_did() -> None:
    either = checked(140)
    either.most = 160
    assert sample_of(wrk.parse(OUTPUT), 1.0, either, connections=64).errors.keys() == {
        "read", "wrong status", "no answer in time"
    }  # fmt: skip


def test_a_signal_ends_a_loop_from_inside_and_its_handler_is_put_back() -> None:
    async def hit_and_wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        drive(hit_and_wait())
    assert signal.getsignal(signal.SIGTERM) is before


def test_server_time_is_given_per_request() -> None:
    assert sample_of(wrk.parse(OUTPUT), 1.0, checked(150), connections=64).values["cpu_us"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("head", "length", "chunked", "close"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5", 5, False, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None, True, False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length:0", 0, False, True),
        (b"HTTP/1.0 200 OK", None, False, True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1", 1, False, False),
    ],
)
def test_a_head_says_how_its_body_ends(head: bytes, length: int | None, chunked: bool, close: bool) -> None:
    parsed = parse_head(head)
    assert (parsed.status, parsed.length, parsed.chunked, parsed.close) == (200, length, chunked, close)


def test_what_is_not_http_is_no_head() -> None:
    with pytest.raises(ValueError, match="not an HTTP/1 answer"):
        parse_head(b"SSH-2.0-OpenSSH")


def test_chunks_are_joined_and_a_cut_is_seen() -> None:
    assert decode_chunks(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") == b"abcde"
    with pytest.raises(ValueError, match="cut off"):
        decode_chunks(b"5\r\nab")


def test_an_answer_is_complete_when_its_framing_says_so() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    assert [complete(data) for data in (head[:20], head + b"a", head + b"ab")] == [False, False, True]


def test_only_status_200_with_the_very_body_is_right() -> None:
    request = Request(expect=b"yes")
    assert judge(request, 200, b"yes") is Outcome.OK
    assert judge(request, 200, b"yes!") is Outcome.BODY
    assert judge(request, 500, b"yes") is Outcome.STATUS
    assert judge(Request(expect=None), 200, b"anything") is Outcome.OK


def test_a_request_is_written_with_its_length() -> None:
    text = Request(method="POST", body=b"abc", headers=(("X-A", "1"),)).encode(close=True)
    assert text == b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"


VARYING = Request(f"/a/{NUMBER}?b={NUMBER}", headers=(("X-A", f"c{NUMBER}"), ("X-B", "d")))


def test_a_request_that_varies_has_its_number_in_each_place() -> None:
    assert VARYING.encode(17) == b"GET /a/17?b=17 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: c17\r\nX-B: d\r\n\r\n"
    assert (VARYING.varies, Request(f"/{NUMBER}").varies, Request(headers=(("X-A", "c"),)).varies) == (
        True,
        True,
        False,
    )


def test_a_body_is_sent_as_it_is_even_where_it_looks_like_a_place_for_the_number() -> None:
    body = NUMBER.encode()
    assert Request(f"/{NUMBER}", "POST", body=body).encode(5, close=True) == (
        b"POST /5 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n" + body
    )
    assert not Request(body=body).varies


@pytest.fixture
def wrk_is_somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have a program of that name on the PATH, which is not run."""
    (tmp_path / "wrk").write_text("#!/bin/sh\n")
    (tmp_path / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("wrk_is_somewhere")
def test_each_thread_of_each_start_of_wrk_counts_in_a_block_of_its_own(tmp_path: Path) -> None:
    first, second, third = (
        int(wrk.command(wrk.Load(1, VARYING, threads=threads), [], tmp_path)[-1]) for threads in (2, 3, 1)
    )
    assert first >= 1
    assert (second - first, third - second) == (2, 3)
    assert (tmp_path / "head").read_bytes() == VARYING.head().encode()


@pytest.mark.usefixtures("wrk_is_somewhere")
def test_wrk_keeps_its_ready_made_request_where_nothing_varies(tmp_path: Path) -> None:
    assert wrk.command(wrk.Load(1, Request()), [], tmp_path)[-4:] == ["--", "GET", str(tmp_path / "headers"), "-"]
