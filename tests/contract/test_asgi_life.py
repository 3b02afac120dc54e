"""Start and end of an ASGI worker: lifespan, draining, the last call and the end of patience."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.contract.test_asgi_http import body_of, raw_request, scope_of, worker_of
from tests.support.serving import bound, run_worker, serving

FOLDER = Path(__file__).parent


def test_a_lifespan_that_fails_to_start_ends_the_worker_with_3_and_its_reason() -> None:
    with bound() as listener:
        outcome = run_worker(
            "--fd", str(listener.fileno()), "--backend", "asgi", "asgi_app:app",
            folder=FOLDER, fds=[listener.fileno()], environ={"FAIL_STARTUP": "1"},
        )  # fmt: skip

    assert outcome.status == 3
    assert outcome.error == "the application's lifespan failed to start: no database"


def test_asgi_applications_are_served_by_asgi_unless_told_otherwise_and_lifespan_may_be_off() -> None:
    with serving(["--lifespan", "off", "asgi_app:app"], folder=FOLDER) as worker:
        assert b"greeting" not in body_of(worker, "/show")
        worker.await_line("(asgi) by asgi at")


def test_draining_lets_requests_in_flight_finish_and_closes_their_connections() -> None:
    with (
        worker_of() as worker,
        raw_request(worker, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n") as sock,
    ):
        body_of(worker, "/hello")
        worker.signal(signal.SIGTERM)
        worker.await_line("draining")
        sock.sendall(b"late")
        raw = sock.makefile("rb").read()
        assert raw.endswith(b"late")
        assert b"Connection: close" in raw


def test_at_the_end_of_the_graceful_timeout_waiters_are_told_and_the_rest_is_cancelled_in_time() -> None:
    with worker_of("--graceful-timeout", "2", status=75) as worker:
        waiting = raw_request(worker, b"GET /until_disconnect HTTP/1.1\r\nHost: a\r\n\r\n")
        slow = raw_request(worker, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        with waiting, slow as sock:
            body_of(worker, "/report?waiting")
            body_of(worker, "/hello")
            worker.signal(signal.SIGTERM)
            assert sock.makefile("rb").read().startswith(b"HTTP/1.1 503 ")
            assert worker.ended() == 75
    assert b"1 requests were cancelled" in worker.log


def test_a_second_signal_tells_those_that_wait_for_their_client_at_once() -> None:
    with (
        worker_of("--graceful-timeout", "1000") as worker,
        raw_request(worker, b"GET /until_disconnect HTTP/1.1\r\nHost: a\r\n\r\n"),
    ):
        body_of(worker, "/report?waiting")
        worker.signal(signal.SIGTERM)
        worker.await_line("draining")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_a_failing_application_is_one_line_and_the_users_own_frames() -> None:
    with worker_of() as worker:
        body_of(worker, "/raises")
        worker.await_line("KeyError: 'the secret'\n")
        worker.signal(signal.SIGTERM)
        worker.ended()
    lines = worker.log.decode().splitlines()
    (first,) = [index for index, line in enumerate(lines) if "'/raises' failed: KeyError" in line]
    assert "asgi_app.py" in lines[first + 2]
    assert "forkserve/serving/asgi" not in worker.log.decode()


def test_clients_that_go_leave_no_error_in_the_log() -> None:
    with worker_of() as worker:
        for path in (b"/endless", b"/until_disconnect"):
            with raw_request(worker, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
                body_of(worker, "/report?sent" if path == b"/endless" else "/report?waiting")
        body_of(worker, "/report?endless:%20OSError")
        body_of(worker, "/report?http.disconnect")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert b"ERROR" not in worker.log


def test_each_answer_leaves_a_line_in_the_access_log(tmp_path: Path) -> None:
    place = tmp_path / "access.log"
    words = ["--access-log", str(place), "--access-log-format", '%(h)s "%(r)s" %(s)s %(B)s %({x-a}i)s']
    with worker_of(*words) as worker:
        worker.request("GET", "/hello?a", headers={"X-A": "b"})
        for path in ("/parts", "/raises", "/file"):
            body_of(worker, path)
    size = (FOLDER / "asgi_app.py").stat().st_size

    assert place.read_text().splitlines() == [
        '127.0.0.1 "GET /hello?a HTTP/1.1" 200 5 b',
        '127.0.0.1 "GET /parts HTTP/1.1" 200 13 -',
        '127.0.0.1 "GET /raises HTTP/1.1" 500 0 -',
        f'127.0.0.1 "GET /file HTTP/1.1" 200 {size} -',
    ]


def test_a_proxy_is_not_believed_what_it_passes_through() -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "666"}
    with worker_of() as worker:
        for _ in range(3):
            scope = scope_of(worker, "/show", **headers)
            assert scope["client"] == ["192.0.2.7", 0]
            assert scope["server"][1] not in (666, None)
            assert not [value for name, value in scope["headers"] if name == "host" and "evil" in value]


def test_trusted_proxies_are_believed_and_max_requests_ends_the_worker() -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6, 192.0.2.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "example.org",
    }
    with worker_of("--max-requests", "3", "--forwarded-fields", "for,proto,host") as worker:
        for _ in range(2):
            scope = scope_of(worker, "/show", **headers)
            assert scope["client"] == ["192.0.2.7", 0]
            assert scope["scheme"] == "https"
            assert scope["server"] == ["example.org", 443]
            assert ["host", "example.org"] in scope["headers"]
        assert worker.request("GET", "/show")[0].headers["Connection"] == "close"
        assert worker.ended() == 0
