"""Applications that change at import what a worker or a zygote depends on: it serves, or says in a line why not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.forkserving import Forkserve, running
from tests.support.serving import bound, run_worker

APP = """
def app(environ, start_response):
    body = str(HELPER.pid).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
UNTIDY = """
import multiprocessing, os, signal, time
HELPER = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
HELPER.start()
os.environ.clear()
os.umask(0o777)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
"""
CLOSING = "import os\nos.closerange(3, 256)\n"
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) untidy:app
use_sockets = True
copy_env = True
preload = {preload}
graceful_timeout = 5
"""


def stack(folder: Path, imports: str, *, preload: bool) -> str:
    (folder / "untidy.py").write_text(imports + APP)
    return STACK.format(preload=preload)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def worker_of(server: Forkserve) -> int:
    return int(server.expect(r"web\[1\] pid (\d+) is ready")[1])


def test_a_worker_that_imports_it_serves_and_ends_when_told_to(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=stack(tmp_path, UNTIDY, preload=False)) as server:
        worker_of(server)
        assert server.stop() == 0


def test_a_zygote_that_imports_it_forks_and_its_helpers_outlive_each_worker(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=stack(tmp_path, UNTIDY, preload=True)) as server:
        server.allow("was started in the zygote")
        first = worker_of(server)
        zygote = int(server.first(r"web zygote pid (\d+) is ready")[1])
        helper = int(server.first(r"1 process was started in the zygote, for all workers: .* \(pid (\d+)\)")[1])
        os.kill(first, signal.SIGTERM)
        server.expect(rf"web\[1\] pid {first} exited with code 0")
        worker_of(server)
        assert helper in children_of(zygote)  # beside what forks the next spare, at times
        assert Path(f"/proc/{helper}/stat").read_text().rpartition(") ")[2][0] != "Z"


def test_an_application_that_closes_our_descriptors_is_told_so_in_a_line(tmp_path: Path) -> None:
    stack(tmp_path, CLOSING, preload=False)
    with bound() as listener:
        outcome = run_worker("--fd", str(listener.fileno()), "untidy:app", folder=tmp_path, fds=[listener.fileno()])
        number = listener.fileno()
    assert (outcome.status, "Traceback" in outcome.stderr) == (3, False)
    assert outcome.error.startswith(f"the application has closed descriptor {number}, which forkserve needs")


def test_a_zygote_whose_channel_the_application_closes_says_so_and_is_not_tried_again(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=stack(tmp_path, CLOSING, preload=True)) as server:
        server.allow("error", "ERROR")
        server.expect(r"error: the application has closed descriptor \d+, which forkserve needs")
        assert server.wait() == 3
