"""Changes of the configuration by verbs: options, watchers and sockets, as Circus spells them too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, running

CONFIG = """
[watcher:web]
cmd = sleep 1000
numprocesses = 2
ready_after = 0.05

[watcher:shell]
cmd = /bin/sh -c "sleep 999 & wait"
copy_env = True
ready_after = 0.05
"""


class Caller:
    """Calls verbs, each over another connection: an idle one is closed after 10 s."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(self, verb: str, **parameters: Any) -> Any:
        with ControlClient(self.path, timeout=20) as client:
            return client.call(verb, **parameters)


@contextlib.contextmanager
def controlled(place: Path, config: str = CONFIG) -> Iterator[tuple[Forkserve, Caller]]:
    with running("--control", str(place / "control"), cwd=place, config=config) as master:
        named = {"web": (1, 2), "shell": (1,)}
        started = [
            rf"{name}\[{wid}\] .* started"
            for name in re.findall(r"\[watcher:(\w+)\]", config)
            for wid in named.get(name, ())
        ]
        master.expect_all("control: ", *started)
        yield master, Caller(place / "control")


def ctl(place: Path, *argv: str) -> tuple[int, str, str]:
    """Run forkservectl; returns its exit code and what it has written."""
    done = commands.ctl(place, "--socket", "control", *argv)
    return done.returncode, done.stdout, done.stderr


def pids(client: Caller, watcher: str) -> set[int]:
    return set(client.call("list", watcher=watcher))


def told(place: Path, *argv: str) -> str:
    code, out, err = ctl(place, *argv)

    assert code == 0, err
    return out.strip()


def test_options_are_set_all_or_none_and_new_processes_only_when_asked(tmp_path: Path) -> None:
    with controlled(tmp_path) as (_master, client):
        before = pids(client, "web")
        client.call("set", watcher="web", options={"graceful_timeout": "2s", "max_age": 3600, "numprocesses": 2})

        assert client.call("get", watcher="web", keys=["graceful_timeout"]) == {"graceful_timeout": 2.0}
        assert pids(client, "web") == before
        for options, problem in (
            ({"max_retry": 1, "nosuch": 1}, "unknown option"),
            ({"max_retry": 1, "backoff": -1}, "backoff"),
            ({"max_retry": 1, "numprocesses": -1}, "at least 0"),
            ({"max_retry": 1, "numprocesses": "x"}, "expected an integer"),
            ({"max_retry": 1, "singleton": True}, "singleton"),
            ({"max_retry": 1, "cmd": "sleep 1001"}, "reload"),
            ({"max_retry": 1, "uid": "no-such-user"}, "unknown user"),
            ({}, "no option"),
        ):
            with pytest.raises(ControlError, match=problem):
                client.call("set", watcher="web", options=options)

        assert client.call("get", watcher="web", keys=["max_retry"]) == {"max_retry": 5}

        client.call("set", watcher="web", options={"cmd": "sleep 1001", "env": {"A": "1"}}, reload=True)

        assert not pids(client, "web") & before
        assert _arguments(client, "web") == ["sleep 1001"]
        assert client.call("options", watcher="web")["env"] == {"A": "1"}


def _arguments(client: Caller, watcher: str) -> list[str]:
    lines = {Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip() for pid in pids(client, watcher)}
    return [line.decode() for line in lines]


def test_a_change_that_fails_leaves_the_options_of_before(tmp_path: Path) -> None:
    with controlled(tmp_path) as (master, client):
        master.allow("reload of web failed", "was taken back", "restart in", "cannot")
        with pytest.raises(ControlError, match="nosuchprogram"):
            client.call("set", watcher="web", options={"cmd": "/nosuchprogram"}, reload=True)

        assert client.call("get", watcher="web", keys=["cmd"]) == {"cmd": "sleep 1000"}
        assert len(pids(client, "web")) == 2


def test_watchers_come_and_go_and_the_file_knows_nothing_of_them(tmp_path: Path) -> None:
    with controlled(tmp_path) as (_master, client):
        client.call(
            "add", watcher="one", cmd="sleep 1000", options={"numprocesses": 2, "ready_after": 0.05}, start=True
        )
        client.call("add", watcher="two", cmd="sleep 1000")

        assert len(pids(client, "one")) == 2
        assert pids(client, "two") == set()
        with pytest.raises(ControlError, match="already exists"):
            client.call("add", watcher="ONE", cmd="sleep 1")
        with pytest.raises(ControlError, match="unknown option"):
            client.call("add", watcher="three", cmd="sleep 1", options={"numproceses": 1})

        client.call("rm", watcher="two")
        left = pids(client, "one")
        client.call("rm", watcher="one", nostop=True)

        assert client.call("list") == ["web", "shell"]
        for pid in left:
            assert Path(f"/proc/{pid}").exists()
            os.kill(pid, signal.SIGTERM)

        client.call("add", watcher="four", cmd="sleep 1000", start=True)
        client.call("reloadconfig")

        assert client.call("list") == ["web", "shell"]


def test_processes_are_killed_and_replaced_and_their_children_signalled(tmp_path: Path) -> None:
    with controlled(tmp_path) as (_master, client):
        before = sorted(pids(client, "web"))
        client.call("kill", watcher="web", pid=before[0], signum="INT")
        eventually(lambda: len(pids(client, "web") - {before[0]}) == 2)

        assert before[1] in pids(client, "web") and before[0] not in pids(client, "web")
        with pytest.raises(ControlError, match="no such process") as refused:
            client.call("kill", watcher="web", pid=1)
        assert refused.value.code == "no-such-process"

        def program() -> str:
            """Return what the shell's child runs: before exec it is a shell, too."""
            usage = client.call("stats", watcher="shell")[0]["processes"][0].get("usage") or {}
            return "".join(each["program"] for each in usage.get("children", ()))

        eventually(lambda: program() == "sleep")
        (report,) = client.call("stats", watcher="shell")[0]["processes"]
        (child,) = report["usage"]["children"]

        assert report["pss"] > 0
        client.call("signal", watcher="shell", signal="TERM", children=True)
        eventually(
            lambda: not Path(f"/proc/{child['pid']}/cmdline").exists() or pids(client, "shell") != {report["pid"]}
        )


def test_a_socket_is_added_moved_and_removed_without_a_gap(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SERVER_CODE)
    with controlled(tmp_path, "[watcher:idle]\ncmd = sleep 1000\nready_after = 0.05\n") as (_master, client):
        client.call("addsocket", socket="web", options={"host": "127.0.0.1", "port": 0})
        command = f"{sys.executable} {tmp_path}/serve.py $(circus.sockets.web)"
        options = {"use_sockets": True, "ready_after": 0.2, "copy_env": True}
        client.call("add", watcher="web", cmd=command, options=options, start=True)
        lost: list[Exception] = []
        over = threading.Event()
        address = [_address(client)]
        load = threading.Thread(target=_ask_until, args=(over, address, lost))
        load.start()
        try:
            for host in ("127.0.0.2", "127.0.0.1"):
                client.call("setsocket", socket="web", options={"host": host, "port": 0})
                address[0] = _address(client)

                assert address[0][0] == host
        finally:
            over.set()
            load.join()

        assert lost == []
        with pytest.raises(ControlError, match="unknown socket 'web'"):
            client.call("rmsocket", socket="web")
        client.call("rm", watcher="web")
        client.call("rmsocket", socket="web")

        assert client.call("listsockets") == []
        with pytest.raises(ControlError, match="no socket"):
            client.call("setsocket", socket="web", options={"port": 1})


SERVER_CODE = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    client = listener.accept()[0]
    client.sendall(b"%d" % os.getpid())
    client.close()
"""


def _address(client: Caller) -> tuple[str, int]:
    (report,) = client.call("listsockets")
    host, _, port = report["address"].rpartition("/")[2].rpartition(":")
    return host, int(port)


def _ask_until(over: threading.Event, address: list[tuple[str, int]], lost: list[Exception]) -> None:
    while not over.is_set():
        try:
            with socket.create_connection(address[0], timeout=10) as client:
                assert client.recv(100).isdigit()
        except ConnectionRefusedError:  # its address has moved in this moment
            continue
        except (OSError, AssertionError) as error:
            lost.append(error)


def test_figures_come_again_when_their_sampler_has_died(tmp_path: Path) -> None:
    with controlled(tmp_path) as (_master, client):
        first = client.call("stats", watcher="web")[0]["processes"]
        named = {each["name"]: each["pid"] for each in client.call("dstats")}

        assert all(each["memory"] > 0 and each["usage"]["threads"] == 1 for each in first)
        assert {"master", "sampler", "guard"} <= named.keys()
        os.kill(named["sampler"], signal.SIGKILL)
        eventually(lambda: client.call("stats", watcher="web")[0]["processes"][0].get("memory"))
        again = {each["name"]: each["pid"] for each in client.call("dstats")}

        assert again["sampler"] != named["sampler"]


def test_lines_as_circus_spells_them(tmp_path: Path) -> None:
    with controlled(tmp_path) as (_master, client):
        pid = str(min(pids(client, "web")))
        lines = (
            ("numwatchers", "2"),
            ("numprocesses web", "2"),
            ("list web", "\n".join(map(str, client.call("list", watcher="web")))),
            ("set web numprocesses 3 max_retry 9", "web: 3 processes running"),
            ("get web numprocesses max_retry", "numprocesses: 3\nmax_retry: 9"),
            ("globaloptions check_delay", "check_delay: 5.0"),
            (f"signal web {pid} CONT", "web: SIGCONT sent to 1 of 3"),
            ("signal web --children CONT", "web: SIGCONT sent to 0 below 3"),
            ("restart w* --match glob --waiting", "web: 3 processes running"),
            ("stop ^sh --match regex", "shell: stopped"),
            ("add --start extra sleep 1000", "extra: added and started"),
            ("rm extra --waiting", "extra: removed"),
            ("reload web --sequential --waiting", "web: 3 processes replaced"),
            ("decr web 2", "web: 1 process running"),
        )
        for line, text in lines:
            assert told(tmp_path, *line.split()) == text, line

        assert json.loads(told(tmp_path, "--json", "--prettify", "numprocesses")) == 1
        assert "PSS" in told(tmp_path, "stats", "web", str(min(pids(client, "web"))))
        assert "master" in told(tmp_path, "dstats")
        assert told(tmp_path, "options", "web").startswith("name: web\ncmd: sleep 1000\n")
        for words, code, text in (
            (("set", "web", "numprocesses", "3", "max_retry"), 2, "NAME VALUE"),
            (("signal", "web", "CONT", "HUP"), 2, "expected a pid"),
            (("decr", "web", "-1"), 1, "count: expected int >= 1"),
            (("get", "web", "nosuch"), 1, "option not found"),
            (("start", "(", "--match", "regex"), 2, "pattern '('"),
            (("kill", "web", "1"), 1, "web: no such process, 1\n"),
        ):
            found, _, err = ctl(tmp_path, *words)

            assert (found, text in err) == (code, True), (words, err)


@pytest.mark.slow
def test_a_thousand_watchers_are_told_in_a_moment_and_hold_nothing_up(tmp_path: Path) -> None:
    watchers = "".join(f"[watcher:w{n}]\ncmd = sleep 1\nautostart = False\n" for n in range(1000))
    with controlled(tmp_path, watchers) as (_master, client):
        reports: list[Any] = client.call("status")

        assert len(reports) == 1000
