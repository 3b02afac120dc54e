"""What a command line of forkserve means, and what it is told when it means nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from socket import AddressFamily

import pytest

from forkserve.cli.arguments import line_parser, parse_line
from forkserve.cli.line import source_of
from forkserve.cli.peers import advice
from forkserve.config.cpus import automatic_processes, cpus_of_quota, usable_cpus
from forkserve.config.load import ConfigSource, FileSource, LineSource
from forkserve.config.model import Config
from forkserve.config.reference import worker_options
from forkserve.config.writing import as_toml
from forkserve.errors import ConfigErrors, UsageError

PLACEHOLDER = "$(circus.sockets.web)"


def source(*argv: str, environ: Mapping[str, str] | None = None) -> ConfigSource:
    line = parse_line(argv, worker_options())
    return source_of(line, environ or {}, cpus=lambda: 6, worker_options=worker_options())


def config(*argv: str, environ: Mapping[str, str] | None = None) -> Config:
    return source(*argv, environ=environ).read()


def refusal(*argv: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises((UsageError, ConfigErrors)) as raised:
        config(*argv, environ=environ)
    return str(raised.value)


def test_the_line_of_the_design_gives_one_socket_and_one_watcher() -> None:
    result = config("--fd-socket", "web=0.0.0.0:8000", "--", "forkserve-worker", "--fd", PLACEHOLDER, "myapp:app")
    (socket,), (watcher,) = result.sockets, result.watchers
    assert (socket.name, socket.host, socket.port) == ("web", "0.0.0.0", 8000)
    assert watcher.cmd == f"forkserve-worker --fd '{PLACEHOLDER}' myapp:app"
    assert (watcher.name, watcher.numprocesses, watcher.copy_env, watcher.use_sockets) == ("web", 1, True, True)


def test_the_other_spelling_of_a_placeholder_counts_as_well() -> None:
    result = config("--fd-socket", "Web=:0", "--", "run", "((circus.sockets.WEB))")
    assert result.sockets[0].name == "web"


def test_an_address_may_carry_options_of_its_socket() -> None:
    text = "web=unix:/tmp/web.sock,mode=0660,owner=root,group=0,backlog=4096,replace"
    (socket,) = config("--fd-socket", text, "--", "run", PLACEHOLDER).sockets
    assert (socket.path, socket.mode, socket.owner, socket.backlog, socket.replace) == (
        "/tmp/web.sock", 0o660, "root", 4096, True,
    )  # fmt: skip
    assert socket.family is AddressFamily.AF_UNIX


def test_sockets_of_every_kind_stand_side_by_side() -> None:
    given = ["a=[::1]:80", "b=unix:@b", "c=fd://7", "d=:81,so_reuseport"]
    argv = [word for each in given for word in ("--fd-socket", each)]
    a, b, c, d = config(*argv, "--", "run").sockets
    assert (a.host, a.family) == ("::1", AddressFamily.AF_INET6)
    assert (b.path, c.fd, d.so_reuseport) == ("@b", 7, True)


def test_the_short_form_runs_the_worker_with_every_socket_and_its_flags() -> None:
    argv = ["-w", "4", "-b", ":8000", "-b", "unix:/tmp/x", "-k", "gevent", "--threads", "2", "--reload", "myapp:app"]
    result = config(*argv)
    assert [each.name for each in result.sockets] == ["web", "web2"]
    assert result.watchers[0].numprocesses == 4
    assert result.watchers[0].cmd == (
        "forkserve-worker --fd '$(circus.sockets.web)' --fd '$(circus.sockets.web2)'"
        " -k gevent --threads 2 --reload myapp:app"
    )


def test_flags_after_the_application_count_too() -> None:
    assert config("myapp:app", "-w", "2").watchers[0].numprocesses == 2


def test_flags_that_concern_both_reach_the_worker_as_well() -> None:
    result = config("--log-level", "debug", "--graceful-timeout", "5", "a:b")
    assert result.master.loglevel == "debug"
    assert result.watchers[0].graceful_timeout == 5.0
    assert "--log-level debug" in result.watchers[0].cmd
    assert "--graceful-timeout" not in result.watchers[0].cmd, (
        "the master hands its own limit over, less what a kill needs"
    )


@pytest.mark.parametrize("word", ["$(circus.socket.web)", "$(circus.sockets.web", "((circus.fd))"])
def test_a_placeholder_that_is_none_is_told_the_right_one(word: str) -> None:
    text = refusal("--fd-socket", "web=:0", "--", "run", "--fd", word, "a:b")
    assert text == f"--fd {word}: no placeholder of a socket; say '{PLACEHOLDER}'"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status"], "status is a verb of forkservectl: forkservectl status (an application is given as status:app)"),
        (["restart", "web"], "restart is a verb of forkservectl: forkservectl restart web"),
        (["chck", "a.ini"], "there is no verb 'chck'; did you mean 'check'?"),
    ],
)
def test_a_verb_that_is_elsewhere_is_shown_its_place(words: list[str], said: str) -> None:
    assert refusal(*words).startswith(said)


def test_the_short_form_takes_any_command() -> None:
    result = config("-w", "2", "-b", ":8000", "--", "run", "--on", PLACEHOLDER)
    assert (result.watchers[0].name, result.watchers[0].cmd) == ("run", f"run --on '{PLACEHOLDER}'")


def test_without_a_bind_the_short_form_listens_on_loopback() -> None:
    (socket,) = config("a:b").sockets
    assert (socket.host, socket.port) == ("127.0.0.1", 8000)


def test_workers_auto_is_the_number_of_usable_cpus() -> None:
    assert config("-w", "auto", "a:b").watchers[0].numprocesses == 6


def test_web_concurrency_and_port_count_and_empty_means_unset() -> None:
    result = config("a:b", environ={"WEB_CONCURRENCY": "3", "PORT": "9000"})
    assert result.watchers[0].numprocesses == 3
    assert (result.sockets[0].host, result.sockets[0].port) == ("0.0.0.0", 9000)
    empty = config("a:b", environ={"WEB_CONCURRENCY": "", "PORT": " "})
    assert (empty.watchers[0].numprocesses, empty.sockets[0].port) == (1, 8000)


def test_flags_beat_the_environment() -> None:
    result = config("-w", "2", "-b", ":81", "a:b", environ={"WEB_CONCURRENCY": "x", "PORT": "x"})
    assert (result.watchers[0].numprocesses, result.sockets[0].port) == (2, 81)


def test_web_concurrency_does_not_multiply_a_command_that_is_no_web_worker() -> None:
    assert config("--", "redis-server", environ={"WEB_CONCURRENCY": "3"}).watchers[0].numprocesses == 1


def test_flags_that_are_left_in_the_environment_are_warned_of() -> None:
    environ = {"GUNICORN_CMD_ARGS": "-w 3"}
    said = "environment GUNICORN_CMD_ARGS: is not read; give its flags on the command line"
    assert config("a:b", environ=environ).warnings == (said,)
    assert said not in config("--", "gunicorn", "a:b", environ=environ).warnings


def test_a_configuration_file_in_place_of_an_application_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "circus.ini").write_text("[watcher:a]\ncmd = x\n")
    (tmp_path / "paste.ini").write_text("[app:main]\nuse = egg:x\n")
    file = str(tmp_path / "circus.ini")
    assert refusal(file) == f"{file} is a configuration file; run it with: forkserve -c {file}"
    assert config(str(tmp_path / "paste.ini")).watchers[0].cmd.endswith("paste.ini")


def test_a_flag_beside_a_file_leaves_its_section_as_it_is_judged_without(tmp_path: Path) -> None:
    file = tmp_path / "circus.ini"
    file.write_text("[circus]\nnosuch = 1\n[watcher:a]\ncmd = sleep 1\n")
    for flags in ([], ["--control", "none"], ["--pidfile", "pid", "-D"]):
        (warning,) = config("-c", str(file), *flags).warnings
        assert warning == f"{file}:2 [circus] nosuch: unknown option, ignored"

    file = tmp_path / "stack.toml"
    file.write_text('[forkserve]\nnosuch = 1\n[watcher.a]\ncmd = "sleep 1"\n')
    assert refusal("-c", str(file), "--control", "none").endswith("[forkserve] nosuch: unknown option")


def test_variables_users_and_master_flags_are_taken() -> None:
    argv = ["--env", "A=$HOME=1", "-u", "root", "-g", "0", "--pidfile", "/tmp/pid", "--control", "none", "-D", "a:b"]
    result = config(*argv)
    watcher, master = result.watchers[0], result.master
    assert (watcher.env, watcher.uid, watcher.gid) == ({"A": "$HOME=1"}, "root", "0")
    assert (master.pidfile, master.control, master.daemon) == ("/tmp/pid", "none", True)
    assert str(result.origins["circus", "pidfile"]) == "argument --pidfile"


def command(*argv: str) -> str:
    return config(*argv).watchers[0].cmd.removeprefix("forkserve-worker --fd '$(circus.sockets.web)' ")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--access-logfile - --error-logfile - a:b", "--error-logfile - --access-logfile - a:b"),
        ("--log-file /tmp/x.log a:b", "--log-file /tmp/x.log a:b"),
        ("--paste site.ini", "paste:site.ini"),
        ("--paste site.ini admin", "'paste:site.ini#admin'"),
        ("--proxy-protocol a:b", "--proxy-protocol auto a:b"),
        ("a:b --proxy-protocol", "--proxy-protocol auto a:b"),
        ("--proxy-protocol v2 a:b", "--proxy-protocol v2 a:b"),
        ("--proxy-protocol -w 2 a:b", "--proxy-protocol auto a:b"),
        ("--worker-connections 100 -R a:b", "--worker-connections 100 a:b"),
    ],
)
def test_flags_of_gunicorn_reach_the_worker(argv: str, expected: str) -> None:
    assert command(*argv.split()) == expected


def test_flags_of_gunicorn_that_are_the_masters() -> None:
    argv = "-e A=1 -p /tmp/x.pid -n shop -m 027 --reuse-port --timeout-graceful-shutdown 3 --log-file /tmp/x.log a:b"
    result = config(*argv.split(), "--capture-output")
    master, watcher, (sock,) = result.master, result.watchers[0], result.sockets
    assert (master.pidfile, master.name, master.umask, master.logoutput) == ("/tmp/x.pid", "shop", 0o27, "/tmp/x.log")
    assert (watcher.env, watcher.graceful_timeout, sock.so_reuseport) == ({"A": "1"}, 3.0, True)
    assert watcher.stdout_stream is not None
    assert watcher.stdout_stream.filename == "/tmp/x.log"
    assert config("--pid", "/tmp/y", "--capture-output", "a:b").watchers[0].stdout_stream is None


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--log-config logging.ini a:b", "--log-config: configure the application's logging in the application"),
        ("--dogstatsd-tags=a:b a:b", "--dogstatsd-tags: the queue is among the metrics"),
        ("--worker-tmp-dir /dev/shm a:b", "--worker-tmp-dir: heartbeats are in shared memory"),
        ("--host 0.0.0.0 --port 80 a:b", "--host: give the address as -b HOST:PORT"),
        ("-c x.py", "x.py is a configuration of Gunicorn"),
        ("-c python:conf a:b", "python:conf is a configuration of Gunicorn"),
        ("--paste x.ini a:b", "give the application 'a:b' or --paste x.ini, not both"),
        ("-c x.ini --log-file -", "--log-file does not go with -c: it belongs in x.ini"),
        ("--log-file - -- run", "--log-file belongs to forkserve-worker: put it into the command after --"),
    ],
)
def test_a_flag_without_a_meaning_gets_a_hint_instead_of_the_nearest_name(argv: str, said: str) -> None:
    text = refusal(*argv.split())
    assert text.startswith(said)
    assert "did you mean" not in text


def test_every_flag_of_gunicorn_and_uvicorn_means_something_or_is_told_what_to_do() -> None:
    gunicorn, uvicorn = pytest.importorskip("gunicorn.config"), pytest.importorskip("uvicorn.main")
    flags = {flag for each in gunicorn.make_settings().values() for flag in each.cli or ()}
    flags |= {flag for each in uvicorn.main.params for flag in (*each.opts, *each.secondary_opts) if flag[0] == "-"}
    known = {flag for action in line_parser(worker_options())._actions for flag in action.option_strings}
    assert len(flags) > 120
    assert {flag for flag in flags if flag not in known and not advice(flag)} == set()
    assert {flag for flag in known if advice(flag)} == set(), "a hint that nobody will ever see"


def test_a_configuration_of_gunicorn_is_written_as_a_line(tmp_path: Path) -> None:
    file = tmp_path / "gunicorn.conf.py"
    file.write_text(
        "import os\nbind = ['0.0.0.0:8000', 'unix:/tmp/x y.sock']\nworkers = os.cpu_count()\nthreads: int = 4\n"
        "accesslog = '-'\nuser = None\nreload = False\numask = 0o27\npreload_app = True\n"
        "wsgi_app = 'shop.wsgi:app'\ndef post_fork(server, worker):\n    raise SystemExit\n"
    )
    line = (
        "forkserve --bind 0.0.0.0:8000 --bind 'unix:/tmp/x y.sock' --threads 4 --access-logfile - --umask 27 "
        "--preload shop.wsgi:app (yours to translate: workers, post_fork)"
    )
    assert refusal("-c", str(file)).endswith(f"Here that is: {line}")
    words = shlex.split(line.partition(" (")[0])[1:]
    assert (config(*words).watchers[0].numprocesses, config(*words).master.umask) == (1, 0o27)


@pytest.mark.parametrize(
    "argv",
    [
        ["-w", "3", "-b", ":80", "-b", "unix:/tmp/x;y", "-D", "-e", 'A="\\ é\x7f\U0001f600', "a:b"],
        ["--fd-socket", "we.b=:81,so_reuseport,backlog=9", "--umask", "022", "--", "sh", "-c", "echo 'a ; b' # c", "'"],
        ["--log-file", "/tmp/a b.log", "--capture-output", "--graceful-timeout", "2.5", "-n", "007", "a:b"],
    ],
)
def test_a_line_printed_as_a_file_is_read_to_the_same(argv: list[str], tmp_path: Path) -> None:
    made = source(*argv)
    assert isinstance(made, LineSource)
    file = tmp_path / "printed.toml"
    file.write_text(as_toml(made.sections, made.env))
    assert FileSource(str(file)).read() == made.read()


def test_backlog_holds_for_every_bind_that_names_none() -> None:
    argv = ["--fd-socket", "a=:81,backlog=7", "-b", ":82", "--backlog", "9", "--", "run"]
    assert [each.backlog for each in config(*argv).sockets] == [7, 9]


def test_only_root_may_ask_for_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert refusal("-u", "root", "a:b").startswith("argument --user: only root may run processes as")
    assert config("-u", "65534", "a:b").watchers[0].uid == "65534"


def test_a_file_is_read_and_flags_beat_it(tmp_path: Path) -> None:
    file = tmp_path / "a.ini"
    file.write_text("[circus]\nloglevel = error\npidfile = /tmp/x\n[watcher:a]\ncmd = sleep 1\n[env]\nA = 1\nB = 2\n")
    made = source("-c", str(file), "--log-level", "debug", "--env", "A=3")
    result = made.read()
    assert (result.master.loglevel, result.master.pidfile) == ("debug", "/tmp/x")
    assert result.watchers[0].env == {"A": "3", "B": "2"}
    assert result.warnings == ()
    assert made.path == str(file)


def test_a_source_reads_its_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[watcher.a]\ncmd = "sleep 1"\n')
    made = source("-c", str(file))
    assert made.read().watchers[0].numprocesses == 1
    file.write_text('[watcher.a]\ncmd = "sleep 1"\nnumprocesses = 2\n')
    assert made.read().watchers[0].numprocesses == 2


@pytest.mark.parametrize("text", ["[watcher:a]\ncmd = sleep 1\n", '[watcher.a]\ncmd = "sleep 1"\n'])
def test_a_file_of_another_suffix_is_judged_by_its_content(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stack.config"
    file.write_text(text)
    assert config("-c", str(file)).watchers[0].cmd == "sleep 1"


@pytest.mark.parametrize(
    ("command", "got"),
    [
        (["forkserve-worker", "--fd", "myapp:app"], "--fd is followed by 'myapp:app' instead of a number"),
        (["forkserve-worker", "--fd", "", "myapp:app"], "--fd is followed by '' instead of a number"),
        (["forkserve-worker", "myapp:app", "--fd"], "--fd is followed by nothing instead of a number"),
        (["forkserve-worker", "--fd=", "myapp:app"], "--fd= has no number and names no socket"),
        (["gunicorn", "-b", "fd://", "myapp:app"], "fd:// has no number and names no socket"),
        (["run", ""], "the command has an empty argument and names no socket"),
    ],
)
def test_a_placeholder_eaten_by_the_shell_is_told_and_how_to_quote_it(command: list[str], got: str) -> None:
    text = refusal("--fd-socket", "web=:8000", "--", *command)
    assert text.startswith(got)
    assert text.endswith(f"quote it: '{PLACEHOLDER}'")


def test_an_empty_argument_is_fine_where_no_socket_is_asked_for() -> None:
    assert config("--", "redis-server", "--save", "").watchers[0].cmd == "redis-server --save ''"
    assert config("--fd-socket", "web=:0", "--", "run", PLACEHOLDER, "").watchers[0].cmd.endswith(" ''")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "nothing to run: give an application"),
        (["--"], "no command after --"),
        (["--fd-socket", "web=:1"], "nothing to run: give a command after --"),
        (["--fd-socket", ":1", "--", "x"], "--fd-socket: expected NAME=ADDRESS such as web=0.0.0.0:8000, got ':1'"),
        (["--fd-socket", "web=x", "--", "x"], "--fd-socket: expected HOST:PORT"),
        (["--fd-socket", "web=:1,mod=1", "--", "x"], "--fd-socket: unknown option 'mod' of a socket; did you mean"),
        (["--fd-socket", "a=:1", "--fd-socket", "A=:2", "--", "x"], "two sockets are called 'a'"),
        (["-b", ":1", "-b", ":1", "a:b"], "argument --bind: the same address as [socket:web]"),
        (["-w", "x", "a:b"], "--workers: expected an integer, got 'x'"),
        (["-w", "-1", "a:b"], "--workers: must be at least 1, got -1"),
        (["--threads", "x", "a:b"], "--threads: expected an integer, got 'x'"),
        (["--wokers", "1", "a:b"], "unknown option --wokers; did you mean '--workers'?"),
        (["a:b", "c:d"], "one application is served, got a:b c:d"),
        (["a:b", "--", "x"], "either an application or a command after --"),
        (["-k", "gevent", "--", "x"], "-k belongs to forkserve-worker: put it into the command after --"),
        (["-c", "x.ini", "-w", "2"], "--workers does not go with -c: it belongs in x.ini"),
        (["-c", "x.ini", "-k", "gevent"], "-k does not go with -c: it belongs in a cmd of x.ini"),
        (["-c", "/no/such/x.ini"], "/no/such/x.ini: cannot be read: No such file or directory"),
        (["--env", "A", "a:b"], "--env: expected NAME=VALUE, got 'A'"),
        (["--user", "no-such-user-x", "a:b"], "argument --user: unknown user 'no-such-user-x'"),
        (["--log-level", "loud", "a:b"], "argument --log-level: expected debug, info"),
        (["--fd-socket", "web=:1", "--", "x", "$(circus.sockets.wbe)"],
         "command line [watcher:x] cmd: unknown socket 'wbe'; did you mean 'web'?"),
    ],
)  # fmt: skip
def test_a_line_that_means_nothing_is_told_why(argv: list[str], expected: str) -> None:
    assert refusal(*argv).startswith(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WEB_CONCURRENCY", "many", "environment WEB_CONCURRENCY: expected an integer, got 'many'"),
        ("WEB_CONCURRENCY", "0", "environment WEB_CONCURRENCY: must be at least 1, got 0"),
        ("PORT", "http", "environment PORT: expected a port between 0 and 65535, got 'http'"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, expected: str) -> None:
    assert refusal("a:b", environ={name: value}).startswith(expected)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("", None),
        ("5 0", None),
    ],
)
def test_a_quota_of_the_control_group_is_read(text: str, cpus: int | None) -> None:
    assert cpus_of_quota(text) == cpus


V1 = "cpu,cpuacct/a/b/"
"""The folder of a group in version 1, which has the names of its controllers."""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"cpu.max": "150000 100000"}, 2, id="v2-at-the-root-of-a-container"),
        pytest.param({"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000"}, 1, id="v2-above"),
        pytest.param({V1 + "cpu.cfs_quota_us": "100000", V1 + "cpu.cfs_period_us": "100000"}, 1, id="v1"),
        pytest.param({V1 + "cpu.cfs_quota_us": "-1", V1 + "cpu.cfs_period_us": "100000"}, 64, id="v1-max"),
        pytest.param({"a/b/memory.max": str(400 << 20)}, 3, id="memory-v2"),
        pytest.param({"a/b/memory.max": "max"}, 64, id="memory-v2-max"),
        pytest.param({"memory/memory.limit_in_bytes": str(300 << 20)}, 2, id="memory-v1"),
        pytest.param({"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 64, id="memory-v1-max"),
        pytest.param({"a/b/memory.max": "1000"}, 1, id="at-least-one"),
        pytest.param({"a/b/cpu.max": "nonsense", "a/b/memory.max": "-5"}, 64, id="nonsense"),
    ],
)
def test_auto_has_room_in_the_control_group(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    membership = tmp_path / "membership"
    membership.write_text("12:memory:/a/b\n4:cpu,cpuacct:/a/b\n0::/a/b\n")
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))

    assert automatic_processes(membership, tmp_path / "cgroup") == expected


def test_there_is_at_least_one_cpu_and_at_most_all() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
