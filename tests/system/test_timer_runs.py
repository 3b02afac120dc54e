"""A real timer, which runs by seconds: its runs, `forkservectl run` and its exit code, an upgrade within a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.forkserving import eventually, running

CONFIG = """
[watcher:tick]
cmd = sh -c 'echo "ran at $PWD"; exit 3'
schedule = * * * * * *
[watcher:job]
cmd = sh -c 'read line < {fifo}; exit $line'
schedule = 0 0 1 1 *
time_zone = Europe/Berlin
"""


def _command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "forkserve.cli.ctl", "--socket", "c.sock", *argv]


def _ctl(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*argv), cwd=folder, capture_output=True, text=True, timeout=20)


def test_runs_come_by_themselves_and_by_hand_with_their_exit_code(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with running("--control", "c.sock", cwd=tmp_path, config=CONFIG.format(fifo=fifo)) as server:
        server.expect(r"tick: run 1 begins \(due ")
        server.expect(r"WARNING .*tick: run 1 exited with code 3 after")
        server.expect(r"tick: run 2 begins")
        assert _ctl(tmp_path, "stop", "tick").returncode == 0

        asked = subprocess.Popen(_command("run", "job"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        server.expect(r"job: run 1 begins \(asked for\)")
        refused = _ctl(tmp_path, "run", "job")
        assert (refused.returncode, refused.stderr) == (
            1,
            "forkservectl: error: job: run 1 goes on, and overlap = skip\n",
        )
        server.expect(r"job\[1\] pid \d+ started")
        assert _ctl(tmp_path, "upgrade").returncode == 0
        status = _ctl(tmp_path, "status")
        assert "job: run 1 goes on; next run in " in " ".join(status.stdout.split())

        fifo.write_text("5\n")
        assert asked.communicate(timeout=20)[0].startswith("job: run 1 exited with code 5 after ")
        assert asked.returncode == 5
        (job,) = json.loads(_ctl(tmp_path, "status", "job", "--json").stdout)
        assert (job["timer"]["last"]["code"], job["timer"]["time_zone"]) == (5, "Europe/Berlin")


def test_ctrl_c_at_run_leaves_the_run_going(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with running("--control", "c.sock", cwd=tmp_path, config=CONFIG.format(fifo=fifo)) as server:
        server.expect(r"tick: run 1 begins")
        asked = subprocess.Popen(_command("run", "job"), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        server.expect(r"job\[1\] pid \d+ started")
        asked.send_signal(signal.SIGINT)
        assert "what was asked for goes on" in asked.communicate(timeout=20)[1]
        assert asked.returncode == 130

        fifo.write_text("0\n")
        server.expect(r"INFO .*job: run 1 exited with code 0")
        eventually(lambda: "exited with code 0" in _ctl(tmp_path, "status", "job").stdout)
