"""The state of supervision is read back by another program in the same process, which goes on with the children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("nothing_left")

SPEAKER = """
import os, signal, socket, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def tell(text):
    sender.sendto(text.encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
signal.signal(signal.SIGUSR1, lambda *_: tell("STATUS=told"))
tell("READY=1")
while True:
    signal.pause()
"""

MASTER = """
import json, os, shutil, signal, sys, tempfile
from forkserve.config.model import Config, WatcherOptions
from forkserve.socketpool import SocketPool
from forkserve.supervision.jobs.advance import Start, Stop
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import reap
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.state.watchers import from_data, to_data
from forkserve.supervision.supervisor import Supervisor
from forkserve.unix.notifyfolder import NotifyFolder

wanted = WatcherOptions(name="web", cmd=sys.executable + " -S speaker.py", numprocesses=2)
config, environment = Config(watchers=(wanted,)), dict(os.environ)
loop, events = Loop(), []
services = SpawnServices(loop, lambda names, _wid: dict.fromkeys(names, 0), emit=events.append)

def go_on(supervisor, until):
    deadline = loop.now() + 20
    while not until():
        assert loop.now() < deadline, events
        loop.call_later(0.02, lambda: None)
        loop.run_once()
        supervisor.reaped(reap(10))
        supervisor.settle()

if len(sys.argv) == 1:
    folder = NotifyFolder([tempfile.mkdtemp(dir="/tmp")])  # where no other master looks for what a dead one left
    services.reports = lambda _command: folder.open()
    old = Supervisor(config, SocketPool(()), services, inherited=environment)
    started = old.queue("web").submit(Start())
    go_on(old, lambda: started.done)
    for process in old.queue("web").watcher.processes:
        os.set_inheritable(process.notify, True)
    with open("state.json", "w") as file:
        completions = CompletionWriter()
        state = to_data(old, completions)
        json.dump([state, completions.data], file)
    os.execv(sys.executable, [sys.executable, sys.argv[0], "again"])

with open("state.json") as file:
    state, data = json.load(file)
new = Supervisor(Config(), SocketPool(()), services, inherited=environment)
from_data(state, new, CompletionReader(data), services)
watcher = new.queue("web").watcher
first, second = list(watcher.processes)
folder = os.path.dirname(os.path.dirname(first.notify_address))
os.kill(first.pid, signal.SIGUSR1)
go_on(new, lambda: first.status == "told")
os.kill(second.pid, signal.SIGKILL)
go_on(new, lambda: second not in list(watcher.processes) and len(list(watcher.processes)) == 2)
stopped = new.queue("web").submit(Stop())
go_on(new, lambda: stopped.done)
shutil.rmtree(folder, ignore_errors=True)
print(stopped.result, *(event.text() for event in events), sep="\\n")
"""


def test_supervision_goes_on_after_exec_with_the_same_processes(tmp_path: Path) -> None:
    (tmp_path / "speaker.py").write_text(SPEAKER)
    (tmp_path / "master.py").write_text(MASTER)
    command = [sys.executable, "master.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=50, env={**os.environ, "PWD": str(tmp_path)}
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "web: stopped"
    assert any("was ended by SIGKILL" in line and line.endswith("restarting") for line in lines)
    assert not any("bug" in line for line in lines)
