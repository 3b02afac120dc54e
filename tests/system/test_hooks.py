"""Hooks of the user's, imported and run by a real forkserve, in Circus's signature."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forkserve.control.client import ControlClient
from tests.support.forkserving import TIMEOUT, eventually, running

HOOKS = """
import json, os, time

def note(watcher, arbiter, hook_name, **details):
    with open("notes", "a") as notes:
        said = [hook_name, watcher.name, watcher.numprocesses, watcher.status(), sorted(details)]
        notes.write(json.dumps(said) + "\\n")
    return True

def no(watcher, arbiter, hook_name, **details):
    return False

def fails(watcher, arbiter, hook_name, **details):
    raise RuntimeError("not today")

def dies(**details):
    os._exit(3)

def hangs(**details):
    time.sleep(1000)

def starts_other(watcher, arbiter, hook_name, **details):
    assert arbiter.numwatchers() == 2 and watcher.cmd == "sleep 1000" and watcher.flag == "x"
    arbiter.get_watcher("OTHER").start()
    return True
"""
QUICK = "cmd = sleep 1000\nready_after = 0.05\n"


def _hooks(target: str, *names: str) -> str:
    return "".join(f"hooks.{name} = {target}\n" for name in names)


def _noted(place: Path) -> list[list[Any]]:
    notes = place / "notes"
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def test_each_hook_is_called_in_its_turn_with_what_circus_gives_it(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(HOOKS)
    each = [f"{when}_{what}" for what in ("start", "spawn", "stop", "signal", "reap") for when in ("before", "after")]
    config = f"[watcher:web]\n{QUICK}{_hooks('myhooks.note', *each)}"

    with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config) as master:
        master.expect(r"web\[1\] pid \d+ started")
        eventually(lambda: [name for name, *_ in _noted(tmp_path)][-1:] == ["after_start"])
        assert master.stop() == 0

    assert [(name, details) for name, *_, details in _noted(tmp_path)] == [
        ("before_start", []),
        ("before_spawn", []),
        ("after_spawn", ["pid"]),
        ("after_start", []),
        ("before_stop", []),
        ("before_signal", ["pid", "signum"]),
        ("after_signal", ["pid", "signum"]),
        ("before_reap", ["process_pid", "time"]),
        ("after_reap", ["exit_code", "process_pid", "process_status", "time"]),
        ("after_stop", []),
    ]
    assert {tuple(said[1:3]) for said in _noted(tmp_path)} == {("web", 1)}


WAITING = """
def opens(watcher, **details):
    open("begun", "w").close()
    return open("gate").read() == "go"

def lists(watcher, **details):
    with open("listed", "a") as listed:
        print(watcher.pids, watcher.get_active_pids(), list(watcher.processes), file=listed)
    return True
"""


def test_a_watcher_is_starting_while_its_hook_waits_and_has_its_processes_as_it_stops(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(WAITING)
    os.mkfifo(tmp_path / "gate")
    hooks = f"{_hooks('myhooks.opens', 'before_start')}{_hooks('myhooks.lists', 'before_stop')}"
    control = tmp_path / "control"

    with running("--control", str(control), cwd=tmp_path, config=f"[watcher:web]\n{QUICK}{hooks}") as master:
        eventually((tmp_path / "begun").exists)
        with ControlClient(control, timeout=15) as client:
            (waiting,) = client.call("status")
            (tmp_path / "gate").write_text("go")
            pid = master.started("web[1]")
            eventually(lambda: client.call("status")[0]["state"] == "active")
        assert master.stop() == 0

    assert waiting["state"] == "starting"
    assert (tmp_path / "listed").read_text() == f"[{pid}] [{pid}] [{pid}]\n"


def test_a_hook_that_returns_after_the_master_has_ended_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(WAITING)
    os.mkfifo(tmp_path / "gate")
    ours, its = socket.socketpair()
    command = [sys.executable, "-um", "forkserve.sidecars.hooks", "--watcher", "web", "--channel", str(its.fileno())]
    question = {"hook": "before_start", "details": {}, "path": [str(tmp_path)]}
    targets = {"before_start": "myhooks.opens"}
    with subprocess.Popen(command, cwd=tmp_path, pass_fds=[its.fileno()], stderr=subprocess.PIPE, text=True) as host:
        its.close()
        with ours:
            ours.sendall(json.dumps({**question, "targets": targets}).encode() + b"\n")
            eventually((tmp_path / "begun").exists)
        (tmp_path / "gate").write_text("go")
        _, stderr = host.communicate(timeout=TIMEOUT)
    assert host.returncode == 0
    assert stderr == ""


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("myhooks.no", ""),
        ("myhooks.fails", "RuntimeError: not today"),
        ("myhooks.dies", "its process has ended"),
        ("myhooks.hangs", r"no answer within 0\.4 s \(hook_timeout\)"),
        ("nosuch.hook", "cannot import nosuch.hook"),
        ("myhooks.nothing", "cannot import myhooks.nothing"),
    ],
)
def test_a_hook_that_refuses_fails_or_hangs_stops_its_watcher_alone(tmp_path: Path, target: str, told: str) -> None:
    (tmp_path / "myhooks.py").write_text(HOOKS)
    timeout = "hook_timeout = 0.4\n" if "hangs" in target else ""
    config = f"[watcher:web]\n{QUICK}{timeout}{_hooks(target, 'before_start')}[watcher:other]\n{QUICK}"

    with running(cwd=tmp_path, config=config) as master:
        master.allow("hooks.before_start", "Traceback", "SIGKILL")
        if told:
            master.expect(f"web: hooks.before_start failed: .*{told}")
        master.expect("web: hooks.before_start said no: it is stopped")
        master.rewound().started("other[1]")
        assert not [line for line in master.lines if "web[1]" in line]
        assert master.stop() == 0


def test_a_hook_asks_and_drives_other_watchers(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "myhooks.py").write_text(HOOKS)
    config = (
        f"[watcher:web]\n{QUICK}flag = x\n{_hooks('myhooks.starts_other', 'after_start')}[watcher:other]\n{QUICK}"
        f"autostart = False\n[env:web]\nPYTHONPATH = {tmp_path}/lib\n"
    )
    with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config) as master:
        master.started("other[1]")
        assert master.stop() == 0


def test_extended_stats_adds_figures_to_those_of_each_process(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(
        "def more(watcher, arbiter, hook_name, pid, stats, **details):\n"
        "    stats['queue'] = [watcher.name, pid == stats['pid']]\n"
    )
    config = f"[watcher:web]\n{QUICK}{_hooks('myhooks.more', 'extended_stats')}[watcher:other]\n{QUICK}"
    control = tmp_path / "control"
    with running("--control", str(control), cwd=tmp_path, config=config) as master:
        master.started("web[1]")
        with ControlClient(control, timeout=15) as client:
            web, other = client.call("stats", extended=True)
            (plain,) = client.call("stats", watcher="web")
        assert [each["extended"] for each in web["processes"]] == [{"queue": ["web", True]}]
        assert "extended" not in {**other["processes"][0], **plain["processes"][0]}
        assert master.stop() == 0


CHANGES = """
def prepare(watcher, arbiter, hook_name):
    watcher.cmd = watcher.cmd.replace("1000", "2000")
    watcher.env["TOKEN"] = "t" + watcher.env["SALT"]
    watcher.working_dir = "sub"
    assert watcher.cmd == "sleep 2000"
    return True

def one_more(watcher, arbiter, hook_name):
    watcher.args = ["1s"]
    return watcher.cmd == "sleep 2000"

def wrong(watcher, arbiter, hook_name):
    watcher.env["NUMBER"] = 3
    return True

def late(watcher, arbiter, hook_name):
    watcher.cmd = "true"
    return True
"""


def test_what_hooks_assign_before_a_start_is_what_is_started(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(CHANGES)
    (tmp_path / "sub").mkdir()
    hooks = "hooks.before_start = myhooks.prepare\nhooks.before_spawn = myhooks.one_more\n"
    config = f"[watcher:web]\n{QUICK}numprocesses = 2\nmax_surge = 0\nmax_unavailable = 1\n{hooks}[env:web]\nSALT = s\n"
    control = tmp_path / "control"
    with running("--control", str(control), cwd=tmp_path, config=config) as master, ControlClient(control) as client:
        master.expect(r"web\[2\] pid \d+ started")
        for verb in ("start", "reload", "restart"):  # a reload does not ask before_start, and keeps what that has said
            client.call(verb, watcher="web", waiting=True)
            for pid in client.call("list", watcher="web"):
                assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0002000\0001s\0"
                assert b"TOKEN=ts\0" in Path(f"/proc/{pid}/environ").read_bytes()
                assert Path(f"/proc/{pid}/cwd").readlink() == tmp_path / "sub"
        assert client.call("options", watcher="web")["cmd"] == "sleep 1000"
        assert master.stop() == 0


@pytest.mark.parametrize(
    ("hook", "target", "told"),
    [
        ("before_start", "wrong", "ValueError: env: expected a dict of texts, got {'NUMBER': 3}"),
        ("after_start", "late", "AttributeError: cmd cannot be assigned here (before_start and before_spawn may"),
    ],
)
def test_what_cannot_be_assigned_fails_the_hook(tmp_path: Path, hook: str, target: str, told: str) -> None:
    (tmp_path / "myhooks.py").write_text(CHANGES)
    config = f"[watcher:web]\n{QUICK}hooks.{hook} = myhooks.{target}\n"
    with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config) as master:
        master.allow("Traceback", "hooks\\.")
        master.expect(re.escape(told))


SIGNALS = """
def only_to_sleepers(watcher, arbiter, hook_name, pid, signum):
    asked = open(f"/proc/{pid}/comm").read().strip()
    open("asked", "a").write(f"{asked} {int(signum)}\\n")
    return asked == "sleep"
"""


def test_a_hook_is_asked_of_signals_to_children_too(tmp_path: Path) -> None:
    (tmp_path / "myhooks.py").write_text(SIGNALS)
    shell = "sh -c 'sleep 1000 & cat /dev/zero > /dev/null & wait'"
    config = f"[watcher:web]\ncmd = {shell}\ncopy_env = True\nready_after = 0.05\ngraceful_timeout = 0.3\n"
    config += "hooks.before_signal = myhooks.only_to_sleepers\n"
    control = tmp_path / "control"
    with running("--control", str(control), cwd=tmp_path, config=config) as master, ControlClient(control) as client:
        master.allow("said no", "SIGKILL", "killed")
        master.expect(r"web\[1\] pid \d+ started")
        (pid,) = client.call("list", watcher="web")
        children = Path(f"/proc/{pid}/task/{pid}/children")
        eventually(lambda: sorted(_names_of(children)) == ["cat", "sleep"])
        client.call("signal", watcher="web", signal="SIGTERM", children=True)
        eventually(lambda: _names_of(children) == ["cat"])
        assert sorted((tmp_path / "asked").read_text().splitlines()) == ["cat 15", "sleep 15"]
        client.call("kill", watcher="web", signum="SIGKILL", waiting=True)


def _names_of(children: Path) -> list[str]:
    try:
        return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in children.read_text().split()]
    except OSError:
        return []
