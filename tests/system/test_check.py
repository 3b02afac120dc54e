"""`forkserve check` says what is sure to fail, in the words of whoever would fail, and starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.cli.master import main
from tests.support.commands import run_main
from tests.support.serving import PATIENCE

FOLDER = Path(sys.executable).parent
SITE = "def app(environ, start): ...\n\n\nif True:\n    from os import path as other\n"
SOCKET = "[socket:web]\nport = 0\n"
PLACEHOLDER = "$(circus.sockets.web)"
WORKER = f"{FOLDER}/forkserve-worker --fd {PLACEHOLDER}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "site_c.py").write_text(SITE)
    (folder / "broken_c.py").write_text("def app(:\n")
    (folder / "made_c.py").write_text("globals()['app'] = print\n")
    (folder / "star_c.py").write_text("from os import *\n")
    (folder / "pkg_c").mkdir()
    (folder / "pkg_c" / "__init__.py").write_text("app = 1\n")
    (folder / "pkg_c" / "inner.py").write_text("raise SystemExit('imported')\napp = 1\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o755)
    (folder / "files").mkdir()
    (folder / "text.pem").write_text("no certificate\n")
    (folder / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return folder


def check(
    folder: Path, text: str, *, name: str = "a.ini", environ: dict[str, str] | None = None
) -> tuple[int, list[str]]:
    """Return the exit code and what was said, without the name of the command."""
    (folder / name).write_text(text)
    done = run_main(main, "check", name, cwd=folder, env={"PATH": "/usr/bin:/bin", **(environ or {})})
    assert "Traceback" not in done.stderr
    return done.returncode, [line.removeprefix("forkserve: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "--thread 4 -k getvent site_c:app",
            [
                "unknown option --thread; did you mean '--threads'?",
                "there is no backend 'getvent'; did you mean 'gevent'?",
            ],
        ),
        (
            "--threads many --workers 3 site_c:app",
            [
                "--workers: the number of processes is the master's: forkserve -w N",
                "--threads: expected an integer, got 'many'",
            ],
        ),
        ("-k", ["argument -k/--backend/--worker-class: expected one argument (see forkserve-worker --help)"]),
        ("", ["no application given; name it as in myapp:app"]),
        *(
            (
                f"--fd {fd} site_c:app",
                [f"--fd {fd}: neither a number nor the placeholder of a socket, as {PLACEHOLDER} is"],
            )
            for fd in (
                "$(circus.sockets.web",
                "$circus.sockets.web",
                "((circus.sockets.web)",
                "$(sockets.web)",
                "web",
                "-1",
            )
        ),
        ("site_d:app", ["no module named 'site_d', from application 'site_d:app'; looked in {} and the Python path"]),
        ("site_c:ap", ["'site_c' has no attribute 'ap', from application 'site_c:ap'"]),
        ("pkg_c.outer:app", ["no module named 'pkg_c.outer', from application 'pkg_c.outer:app'"]),
        ("site_c.app:app", ["'site_c' is no package, from application 'site_c.app:app'"]),
        ("broken_c:app", ["application 'broken_c:app': {}/broken_c.py:1: invalid syntax"]),
        ("other/site_c.py", ["application 'other/site_c.py': {}/other/site_c.py does not exist"]),
        ("paste:x.ini", ["application 'paste:x.ini': {}/x.ini does not exist"]),
        ("--chdir nosuch site_c:app", ["--chdir: no such directory: {}/nosuch"]),
        ("--python-path nosuch site_c:app", ["--python-path: {}/nosuch does not exist"]),
        ("--static /s=nosuch site_c:app", ["--static /s=nosuch: no such directory"]),
        (
            "--root-path shop site_c:app",
            ["--root-path: expected a path that begins with a slash, such as /shop, got 'shop'"],
        ),
        (
            "--access-log-format '%(h)s %(host)s' site_c:app",
            ["--access-log-format: unknown atom %(host)s in the access log format"],
        ),
        ("--access-log logs/a.log site_c:app", ["--access-log: no such directory: {}/logs"]),
        ("--keyfile k.pem site_c:app", ["--keyfile: there is no TLS without a certificate; give --certfile FILE"]),
        ("--ca-certs k.pem site_c:app", ["--ca-certs: there is no TLS without a certificate; give --certfile FILE"]),
        (
            "--forwarded-allow-ips 10.0.0 site_c:app",
            ["--forwarded-allow-ips: expected an address, a network like 10.0.0.0/8, unix or *, got '10.0.0'"],
        ),
        (
            "--proxy-protocol v1 --proxy-allow-from lb site_c:app",
            ["--proxy-allow-from: expected an address, a network like 10.0.0.0/8, unix or *, got 'lb'"],
        ),
        ("--certfile text.pem site_c:app", ["--certfile {}/text.pem: it holds no certificate in PEM form"]),
        ("--certfile nosuch.pem site_c:app", ["--certfile {}/nosuch.pem: No such file or directory"]),
        (
            "--certfile broken.pem site_c:app",
            ["--certfile {}/broken.pem: it holds no private key in PEM form; name the file of the key by --keyfile"],
        ),
        (
            "--certfile broken.pem --keyfile text.pem site_c:app",
            ["--keyfile {}/text.pem: it holds no private key in PEM form"],
        ),
    ],
)
def test_the_line_of_a_worker_is_judged(line: str, said: list[str], folder: Path) -> None:
    text = f"{SOCKET}[watcher:a]\ncmd = {WORKER} {line}\ncopy_env = True\n"
    expected = [f"error: a.ini:4 [watcher:a] cmd: {each.replace('{}', str(folder))}" for each in said]
    assert check(folder, text) == (78, expected)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "--backnd gevent --prot 80 site_c:app",
            ["unknown option --backnd; did you mean '--backend'?", "unknown option --prot; did you mean '--port'?"],
        ),
        ("--backend fastgevent site_c:app", ["backend 'fastgevent' is not served: gevent.wsgi is gone"]),
        ("--port many", ["--port: expected an integer, got 'many'"]),
        ("nosuch.app", ["no module named 'nosuch', from application 'nosuch.app'"]),
        ("", []),
        ("--backend wsgiref site_c.app words -- --of it", []),
    ],
)
def test_the_line_of_chaussette_is_judged(line: str, said: list[str], folder: Path) -> None:
    command = f"{FOLDER}/chaussette --fd $(circus.sockets.web) {line}"
    code, found = check(folder, f"{SOCKET}[watcher:a]\ncmd = {command}\ncopy_env = True\n")
    assert (code, len(found)) == (78 if said else 0, len(said))
    for each, expected in zip(found, said, strict=True):
        assert each.startswith(f"error: a.ini:4 [watcher:a] cmd: {expected}")


def test_the_line_of_another_chaussette_is_not_judged(folder: Path) -> None:
    (folder / "bin" / "chaussette").write_text("#!/bin/sh\n")
    (folder / "bin" / "chaussette").chmod(0o755)
    text = f"{SOCKET}[watcher:a]\ncmd = bin/chaussette --own-flag --fd $(circus.sockets.web)\ncopy_env = True\n"
    assert check(folder, text) == (0, [])


@pytest.mark.parametrize(
    "line",
    [
        "site_c:app",
        "site_c:other",
        "site_c",
        "site_c.py:app",
        "site_c.app",
        "made_c:app",
        "star_c:app",
        "pkg_c:app",
        "pkg_c.inner:app",
        "wsgiref.simple_server:demo_app",
        "--threads $(circus.numprocesses) -w2:x site_c:app",
        "--chdir pkg_c inner:app",
        "--python-path pkg_c inner:app",
        "--static /s=files site_c:app",
        "--python /usr/bin/python3 -k wsgiref nosuch:app",
        "--list-backends",
    ],
)
def test_what_may_well_be_right_is_fine_and_nothing_is_imported(line: str, folder: Path) -> None:
    text = f"{SOCKET}[watcher:a]\ncmd = nice {WORKER} {line.replace(' -w2:x', '')}\ncopy_env = True\n"
    assert check(folder, text) == (0, [])


def test_an_application_is_looked_for_where_its_worker_starts(folder: Path) -> None:
    text = f"{SOCKET}[watcher:a]\ncmd = {WORKER} site_c:app\nworking_dir = /\n"
    said = [
        "error: a.ini:4 [watcher:a] cmd: no module named 'site_c', from application 'site_c:app'"
        "; looked in / and the Python path"
    ]
    assert check(folder, text) == (78, said)
    assert check(folder, f"{text}[env]\nPYTHONPATH = {folder}\n") == (0, [])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("cmd = /nonexistent/prog", "cmd: /nonexistent/prog does not exist"),
        ("cmd = /etc/passwd", "cmd: /etc/passwd is not executable"),
        ("cmd = /etc/ x", "cmd: /etc is no file"),
        ("cmd = nosuchprog x\ncopy_env = True", "cmd: 'nosuchprog' is not found on the PATH"),
        (
            "cmd = bin/run\nworking_dir = /",
            "cmd: /bin/run does not exist; it is taken from working_dir, so write {}/bin/run",
        ),
        ("cmd = sleep 1\nuid = $(circus.env.NOPE)", "uid: the variable NOPE is not set"),
        ("cmd = sleep 1\ngid = g$(circus.env.NOPE)", "gid: the variable NOPE is not set"),
        ("cmd = sleep 1\nworking_dir = /$(circus.env.NOPE)", "working_dir: the variable NOPE is not set"),
        (
            "cmd = sleep 1\nstderr_stream.filename = $(circus.env.NOPE)/logs/a",
            "stderr_stream.filename: the variable NOPE is not set",
        ),
        ("cmd = sleep $(circus.env.NOPE)", "cmd: the variable NOPE is not set"),
        ("cmd = sleep \0 1", "cmd: holds a NUL character, which no command, path or variable can; remove it"),
        ("numprocesses = ((circus.env.Nope))\ncmd = sleep 1", "numprocesses: the variable Nope is not set"),
        ("rlimit_nofile = $(circus.env.NOPE)\ncmd = sleep 1", "rlimit_nofile: the variable NOPE is not set"),
        ("graceful_timeout = $(circus.env.NOPE)\ncmd = sleep 1", "graceful_timeout: the variable NOPE is not set"),
        (
            "stdout_stream.filename = /tmp/$(circus.env.NOPE)\ncmd = sleep 1",
            "stdout_stream.filename: the variable NOPE is not set",
        ),
    ],
)
def test_what_is_sure_to_fail_is_an_error(keys: str, said: str, folder: Path) -> None:
    code, lines = check(folder, f"[watcher:a]\n{keys}\n")
    assert code == 78
    assert [line.partition("[watcher:a] ")[2] for line in lines] == [said.replace("{}", str(folder))]


@pytest.mark.parametrize("more", ["", "[env]\nPATH = {}\n"], ids=["by its path", "on the PATH"])
def test_a_script_whose_interpreter_is_not_there_is_an_error(more: str, folder: Path) -> None:
    script = folder / "run"
    script.write_text("#! /nonexistent/python -u\n")
    script.chmod(0o755)
    cmd = "run" if more else str(script)
    code, lines = check(folder, f"[watcher:a]\ncmd = {cmd}\n{more.format(folder)}")
    said = f"cmd: {script} names an interpreter that does not exist: /nonexistent/python"
    assert (code, lines) == (78, [f"error: a.ini:2 [watcher:a] {said}"])
    script.write_text("#!/bin/sh\n")
    assert check(folder, f"[watcher:a]\ncmd = {cmd}\n{more.format(folder)}") == (0, [])


def test_what_the_master_or_the_file_gives_is_set(folder: Path) -> None:
    text = "[watcher:a]\ncmd = sleep $(circus.env.FORKSERVE_WID) $(circus.env.MINE)"
    text += " $(circus.env.theirs)\n[env]\nMINE = 1\n"
    assert check(folder, text, environ={"THEIRS": "1"}) == (0, [])


def test_a_socket_that_nobody_reads_is_warned_of(folder: Path) -> None:
    text = f"{SOCKET}[socket:admin]\nport = 0\n[watcher:a]\ncmd = sleep $(circus.sockets.web)\n"
    said = "warning: a.ini:3 [socket:admin]: no watcher uses it"
    said += ": name it in a cmd, as $(circus.sockets.admin), or set use_sockets"
    assert check(folder, text) == (0, [said])
    assert check(folder, f"{text}[watcher:b]\ncmd = sleep 1\nstdin_socket = admin\n") == (0, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.ini: no watcher, nothing to run: a section [watcher:NAME] with a cmd is needed"),
        (SOCKET, "a.ini: no watcher, nothing to run: a section [watcher:NAME] with a cmd is needed"),
        (
            "[program:x]\ncommand = x\n",
            "a.ini:1 [program:x]: this is a section of supervisord; here it is [watcher:NAME],"
            " with cmd in place of command; `forkserve import FILE -o forkserve.toml` writes it so",
        ),
        (
            "[fcgi-program:x]\ncommand = x\n",
            "a.ini:1 [fcgi-program:x]: this is a section of supervisord; here it is [watcher:NAME], with cmd in place"
            " of command, beside [socket:NAME] in place of socket; FastCGI is the program's affair; `forkserve"
            " import FILE -o forkserve.toml` writes it so",
        ),
        (
            "[uwsgi]\nmodule = x\n",
            "a.ini:1 [uwsgi]: this is a section of uWSGI; here it is [watcher:NAME], with"
            " cmd = forkserve-worker --fd $(circus.sockets.web) MODULE:APP, beside [socket:web]; `forkserve import FILE"
            " -o forkserve.toml` writes it so",
        ),
        (
            "[server:main]\nuse = x\n",
            "a.ini:1 [server:main]: this is a section of PasteDeploy; give its file to --paste",
        ),
    ],
)
def test_a_file_that_runs_nothing_is_refused_by_check_and_by_a_start(text: str, said: str, folder: Path) -> None:
    assert check(folder, text) == (78, [f"error: {said}"])
    done = subprocess.run(
        [FOLDER / "forkserve", "-c", "a.ini"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (78, f"forkserve: error: {said}\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cmd = 5", "cmd: expected a string, got the integer '5'"),
        ('numprocesses = "4"', "numprocesses: expected an integer, got the string '4'"),
        ("numprocesses = 4.0", "numprocesses: expected an integer, got the number '4.0'"),
        ("numprocesses = true", "numprocesses: expected an integer, got the boolean 'true'"),
        ('copy_env = "yes"', "copy_env: expected true or false, got the string 'yes'"),
        ("copy_env = 1", "copy_env: expected true or false, got the integer '1'"),
        ("max_age = false", "max_age: expected seconds, got the boolean 'false'"),
        ("working_dir = 2026-01-01", "working_dir: expected a string, got the date '2026-01-01'"),
        (
            "stdout_stream = {max_bytes = 1.5, filename = '/tmp/x'}",
            "stdout_stream.max_bytes: expected a number of bytes, got the number '1.5'",
        ),
    ],
)
def test_types_of_toml_are_taken_strictly(line: str, said: str, folder: Path) -> None:
    command = "" if line.startswith("cmd") else 'cmd = "sleep 1"\n'
    number = 2 + bool(command)
    text = f"[watcher.a]\n{command}{line}\n"
    assert check(folder, text, name="a.toml") == (78, [f"error: a.toml:{number} [watcher.a] {said}"])


def test_a_variable_that_no_process_can_have_is_an_error(folder: Path) -> None:
    text = '[watcher.a]\ncmd = "sleep 1"\n[watcher.a.env]\n"A=B" = "c"\nD = "e\\u0000f"\n'
    code, said = check(folder, text, name="a.toml")
    assert code == 78
    assert said == [
        "error: a.toml:4 [watcher.a.env] A=B: expected the name of a variable, which is not empty and holds no `=`",
        "error: a.toml:5 [watcher.a.env] D: holds a NUL character, which no command, path or variable can; remove it",
    ]


def test_types_of_toml_that_fit_are_taken(folder: Path) -> None:
    text = (
        '[watcher.a]\ncmd = ["sleep", 1]\nuid = 0\ngraceful_timeout = "5s"\nmax_age = 1.5\nwarmup_delay = 1\n'
        'numprocesses = "$(circus.env.N)"\nsingleton = "((circus.env.FALSE))"\nstop_signal = 15\numask = "022"\n'
        "[watcher.a.rlimits]\nnofile = 100\n[env]\nA = 1\nB = true\n"
    )
    assert check(folder, text, name="a.toml", environ={"N": "2", "FALSE": "no"}) == (0, [])


def test_the_short_form_is_judged_alike(folder: Path) -> None:
    done = subprocess.run(
        [FOLDER / "forkserve", "--check-config", "--static", "/s=nosuch", "-k", "getvent", "site_c:app"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert "there is no backend 'getvent'" in done.stderr
    assert "--static /s=nosuch: no such directory" in done.stderr


def test_a_bare_program_beside_our_python_is_not_found_unless_it_is_ours(folder: Path) -> None:
    code, said = check(folder, "[watcher:a]\ncmd = python -V\n[env:a]\nPATH = /nowhere\n")

    assert (code, said[0]) == (
        78,
        "error: a.ini:2 [watcher:a] cmd: 'python' is not found on the PATH; copy_env is off, so set PATH in an env "
        "section or copy_env = True",
    )


TIMERS = """\
[watcher:a]
cmd = true
schedule = 61 * * * *
time_zone = Europe/Berln
[watcher:b]
cmd = true
schedule = @hourly
numprocesses = 2
[watcher:c]
cmd = true
overlap = allow
[watcher:d]
cmd = true
schedule = 0 9 * * MON#1,5L
overlap = sometimes
"""


def test_what_is_wrong_with_timers_is_named_by_its_line(folder: Path) -> None:
    code, said = check(folder, TIMERS, environ={"PATH": "/usr/bin:/bin"})
    assert (code, said) == (
        78,
        [
            "warning: a.ini:11 [watcher:c] overlap: needs schedule, ignored",
            "error: a.ini:3 [watcher:a] schedule: bad minute '61': expected 0 to 59, `*`, lists, ranges and steps",
            "error: a.ini:4 [watcher:a] time_zone: expected a time zone such as UTC or Europe/Berlin, got "
            "'Europe/Berln'; did you mean 'Europe/Berlin'?",
            "error: a.ini:8 [watcher:b] numprocesses: each run of a watcher with a schedule is one process",
            "error: a.ini:15 [watcher:d] overlap: expected skip, queue or allow, got 'sometimes'",
        ],
    )


def test_the_file_may_be_named_as_in_the_line_that_runs_it(folder: Path) -> None:
    (folder / "a.ini").write_text("[watcher:a]\ncmd = sleep 1\n")
    for words in (["a.ini"], ["-c", "a.ini"], ["--config", "a.ini"]):
        done = run_main(main, "check", *words, cwd=folder, env={"PATH": "/usr/bin:/bin"})
        assert (done.returncode, done.stdout) == (0, "a.ini: fine (0 sockets, 1 watcher)\n"), words
    for words in ([], ["-c"], ["a.ini", "b.ini"], ["-x", "a.ini"]):
        done = run_main(main, "check", *words, cwd=folder, env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 2
        assert done.stderr == "forkserve: error: usage: forkserve check FILE\n"
