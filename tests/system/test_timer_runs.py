"""A real timer, which runs by seconds: its runs, `forkservectl run` and its exit code, an upgrade within a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import commands
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
    return commands.ctl(folder, "--socket", "c.sock", *argv)


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
        assert "the work goes on" in asked.communicate(timeout=20)[1]
        assert asked.returncode == 130

        fifo.write_text("0\n")
        server.expect(r"INFO .*job: run 1 exited with code 0")
        eventually(lambda: "exited with code 0" in _ctl(tmp_path, "status", "job").stdout)


KEPT = """
[circus]
timers_file = timers.json
[watcher:job]
cmd = sh -c 'exit 4'
schedule = 0 0 1 1 *
time_zone = Europe/Berlin
catch_up = {catch_up}
"""


def test_a_restart_knows_the_last_run_and_tells_of_those_that_were_missed(tmp_path: Path) -> None:
    kept = tmp_path / "timers.json"
    with running("--control", "c.sock", cwd=tmp_path, config=KEPT.format(catch_up=False)) as server:
        server.expect("control: ")
        assert _ctl(tmp_path, "run", "job").returncode == 4
        eventually(lambda: kept.exists() and json.loads(kept.read_text())["job"]["results"])
        assert kept.stat().st_mode & 0o777 == 0o600
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL  # not even this loses it
    facts = json.loads(kept.read_text())
    facts["job"]["handled"] -= 3 * 365.25 * 86400  # over three new years, at any time of the day
    kept.write_text(json.dumps(facts))

    with running("--control", "c.sock", cwd=tmp_path, config=KEPT.format(catch_up=True)) as server:
        server.expect("job: 3 runs were missed since ")
        server.expect(r"job: run 2 begins \(for what was missed since")
        server.expect("job: run 2 exited with code 4")
        assert server.stop() == 0
    assert [each["number"] for each in json.loads(kept.read_text())["job"]["results"]] == [1, 2]

    with running("--control", "c.sock", cwd=tmp_path, config=KEPT.format(catch_up=True)) as server:
        server.expect("control: ")
        (job,) = json.loads(_ctl(tmp_path, "status", "job", "--json").stdout)
        assert (job["timer"]["last"]["run"], job["timer"]["last"]["code"]) == (2, 4)
        assert server.stop() == 0
        assert "missed" not in "".join(server.lines)


def test_a_file_of_timers_that_cannot_be_read_or_written_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "timers.json").mkdir()
    with running("--control", "c.sock", cwd=tmp_path, config=KEPT.format(catch_up=False)) as server:
        server.allow("no timers_file: ")
        server.expect(
            "no timers_file: .*timers.json: Is a directory; what timers have run is forgotten with this master"
        )
        assert _ctl(tmp_path, "run", "job").returncode == 4
        assert server.stop() == 0
