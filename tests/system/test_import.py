"""`forkserve import`: files of other programs become TOML that `forkserve check` accepts; what is lost is listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.cli.importing.supervisordvalues import variables
from forkserve.cli.importing.variables import duration
from forkserve.cli.master import main
from tests.support import commands
from tests.support.forkserving import eventually, running
from tests.support.serving import PATIENCE

FOLDER = Path(sys.executable).parent

SUPERVISORD = """\
; a shop
[unix_http_server]
file=/var/run/supervisor.sock   ; the socket
[supervisord]
logfile=/dev/null
nodaemon=true
pidfile=%(here)s/supervisord.pid
loglevel=warn
environment=LANG="C.UTF-8",STAGE='live'
[program:web]
command=sleep
    10%(process_num)02d ; for each process
process_name=%(program_name)s_%(process_num)02d
numprocs=2
numprocs_start=1
directory=/tmp
autorestart=true
startsecs=5
startretries=2
stopsignal=INT
stopwaitsecs=20
stopasgroup=true
killasgroup=true
priority=100
redirect_stderr=true
stdout_logfile=%(here)s/%(program_name)s_%(process_num)02d.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
environment=TOKEN="%(ENV_HOME)s",
    LIST="a,b=c",RATE="100%%"
[group:shop]
programs=worker,php
priority=3
[program:worker]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
numprocs=4
exitcodes=0,2
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=NONE
stdout_events_enabled=true
[fcgi-program:php]
command=cat
socket=unix:///tmp/php.sock
socket_mode=0700
[eventlistener:mail]
command=crashmail -a
[include]
files = conf.d/*.conf
"""
GUNICORN = """\
import os
from parts import PORT
print("printed by the file")
bind = [f"127.0.0.1:{PORT}", "unix:/tmp/x y.sock"]
workers = int(os.environ.get("SHOP_WORKERS", 3)) + 1
worker_class = "gthread"
threads = 4
preload_app = True
accesslog = "-"
umask = 0o27
user = None
keepalive = "soon"
wsgi_app = "shop:app"
raw_env = ["STAGE=live"]
worker_tmp_dir = "/dev/shm"
statsd_host = "localhost:8125"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
logconfig_dict = {"version": 1}
not_a_setting = object()
def post_fork(server, worker):
    raise SystemExit
"""
UWSGI = """\
[uwsgi]
project = shop
chdir = %d
module = %(project):app
master = true
processes = 4
threads = 2
http-socket = :8000
socket = /tmp/%(project).sock
chmod-socket = 660
harakiri = 30
env = LANG=C.UTF-8
env = STAGE=live
attach-daemon = sleep 100
reload-on-rss = 300
venv = %dve
cron = 0 -5 -1 -1 -1 /bin/true
cron2 = minute=-15,hour=6,unique=1 /bin/echo $HOME
cron = bad
cheaper = 2
vacuum
"""
PROCFILE = "# a shop\nweb: sleep $PORT\nworker: sleep 100\nrelease: migrate\nclock: TZ=UTC sleep 3\n"
COMPOSE = """\
services:
  web:
    build: .
    command: sleep ${SECONDS:-8000}
    ports: ["8000:8000"]
    environment: {DEBUG: false, HOME: , PRICE: $$5}
    depends_on: [db, worker]
    restart: unless-stopped
    stop_grace_period: 30s
    user: "0:0"
  worker:
    command: ["sleep", "100"]
    environment: [A=b, HOME]
    deploy: {replicas: 3}
  db:
    image: postgres:16
"""
CIRCUS = """\
[circus]
check_delay = 5
httpd = True
[socket:web]
host = 127.0.0.1
port = 8000
[watcher:web]
cmd = sleep 5$(circus.wid)
use_sockets = True
numprocesses = 2
copy_env = 1
rlimit_nofile = 500
graceful_timeout = 2.5
stdout_stream.class = FileStream
stdout_stream.filename = web.log
flapping.window = 3
[env:web*]
A = b
[plugin:flapping]
use = circus.plugins.flapping.Flapping
"""

Import = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Import:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{FOLDER}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", "/root")
    (tmp_path / "shop.py").write_text("def app(environ, start): ...\n")

    def run(name: str, text: str, *more: str) -> tuple[int, dict[str, Any], str]:
        """Import a file, have the result judged, and return the exit code, the tables and what stood on stderr."""
        (tmp_path / name).write_text(text)
        code = main(["import", name, "-o", "out.toml", *more])
        said = capfd.readouterr().err
        if code:
            assert not (tmp_path / "out.toml").exists()
            return code, {}, said
        assert main(["check", "out.toml"]) == 0, capfd.readouterr().err
        return code, tomllib.loads((tmp_path / "out.toml").read_text()), said

    return run


def test_supervisord(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "once.conf").write_text("[program:once]\ncommand=true\nautorestart=false\npriority=-1\n")
    _, made, said = imported("supervisord.conf", SUPERVISORD)
    assert made["forkserve"] == {"pidfile": f"{tmp_path}/supervisord.pid", "loglevel": "warning"}
    assert made["env"] == {"LANG": "C.UTF-8", "STAGE": "live"}
    log = {"filename": f"{tmp_path}/web_$(circus.wid:02).log", "max_bytes": "10M", "backup_count": 3}
    assert made["watcher"]["web"] == {
        "cmd": "sleep 10$(circus.wid:02)",
        "copy_env": True,
        "numprocesses": 2,
        "process_name": "web_$(circus.wid:02)",
        "first_wid": 1,
        "max_surge": 0,
        "max_unavailable": 1,
        "ready_after": 5,
        "max_retry": 3,
        "stop_signal": "INT",
        "graceful_timeout": 20,
        "stop_children": True,
        "working_dir": "/tmp",
        "stdout_stream": log,
        "redirect_stderr": True,
        "env": {"TOKEN": "$(circus.env.HOME)", "LIST": "a,b=c", "RATE": "100%"},
    }
    worker = made["watcher"]["worker"]
    assert (worker["exitcodes"], worker["group"], made["watcher"]["php"]["group"]) == ("0,2", "shop", "shop")
    assert made["watcher"]["php"]["exitcodes"] == "0"
    assert "exitcodes" not in made["watcher"]["web"]
    assert (worker["process_name"], worker["first_wid"]) == ("worker_$(circus.wid:02)", 0)
    assert (worker["numprocesses"], worker["close_child_stderr"], "stdout_stream" in worker) == (4, True, False)
    assert made["watcher"]["once"]["respawn"] is False
    # of group and program: [program:once] -1, [group:shop] 3, [program:web] 100
    order = {name: watcher.get("priority", 0) for name, watcher in made["watcher"].items()}
    assert order == {"once": 2, "worker": 1, "php": 1, "web": 0}
    assert made["socket"]["php"] == {"path": "/tmp/php.sock", "mode": "0700"}
    assert made["watcher"]["php"]["stdin_socket"] == "php"
    lost = ("[unix_http_server]", "stdout_events", "[eventlistener:mail]")
    assert [word for word in lost if word not in said] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=\"1\",B='2 3',C=4", {"A": "1", "B": "2 3", "C": "4"}),
        ('A="x,y=z",\n  B=/usr/bin:/bin,', {"A": "x,y=z", "B": "/usr/bin:/bin"}),
        ('A=,B=""', {"A": "", "B": ""}),
        ("", {}),
    ],
)
def test_variables_of_supervisord(text: str, found: dict[str, str]) -> None:
    assert variables(text) == found


def test_gunicorn_is_executed(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("PORT = 8000\n")
    _, made, said = imported("gunicorn.conf.py", GUNICORN)
    assert made["socket"] == {"web": {"host": "127.0.0.1", "port": 8000}, "web2": {"path": "/tmp/x y.sock"}}
    web = made["watcher"]["web"]
    assert web["cmd"].endswith("--worker-class gthread --threads 4 --preload --access-logfile - shop:app")
    assert (web["numprocesses"], made["forkserve"]["umask"], made["env"]) == (4, "27", {"STAGE": "live"})
    lines = said.splitlines()
    assert lines[0] == "printed by the file"
    assert [line.split(": ")[2] for line in lines[1:-1]] == [
        "keepalive", "worker_tmp_dir", "secure_scheme_headers", "logconfig_dict", "post_fork",
    ]  # fmt: skip
    assert made["forkserve"]["statsd_host"] == "localhost:8125"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys\nwhile True: pass\n", "has not ended within 0.3 seconds"),
        ("raise ValueError('mine')\n", "ValueError: mine"),
        ("import os\nos._exit(0)\n", "failed when it was executed"),
        ("bind = \n", "SyntaxError"),
    ],
)
def test_a_gunicorn_file_that_fails_or_hangs(text: str, said: str, imported: Import) -> None:
    code, _, stderr = imported("gunicorn.conf.py", text, *(["--timeout", "0.3"] if "while" in text else []))
    assert code == 78
    assert said in stderr
    assert stderr.splitlines()[-1].startswith("forkserve: error: gunicorn.conf.py: ")


def test_uwsgi(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "ve" / "bin").mkdir(parents=True)
    (tmp_path / "ve" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages").mkdir(
        parents=True
    )
    (tmp_path / "ve" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "ve" / "pyvenv.cfg").write_text(f"home = {FOLDER}\n")
    _, made, said = imported("uwsgi.ini", UWSGI)
    assert made["socket"] == {
        "web": {"host": "0.0.0.0", "port": 8000},
        "web2": {"path": "/tmp/shop.sock", "mode": "660"},
    }
    web = made["watcher"]["web"]
    assert web.pop("cmd").endswith("--backend threads --threads 2 --timeout 30 --access-log - shop:app")
    assert web == {
        "copy_env": True,
        "working_dir": f"{tmp_path}/",
        "virtualenv": f"{tmp_path}/ve",
        "numprocesses": 2,
        "numprocesses_min": 2,
        "numprocesses_max": 4,
        "max_rss": "300M",
        "env": {"LANG": "C.UTF-8", "STAGE": "live"},
    }
    place = {key: web[key] for key in ("copy_env", "working_dir", "virtualenv", "env")}
    assert made["watcher"]["daemon1"] == {"cmd": "sleep 100", **place}
    assert made["watcher"]["cron1"] == {"cmd": "/bin/true", "schedule": "0 */5 * * *", **place}
    assert made["watcher"]["cron2"] == {"cmd": "/bin/echo $HOME", "schedule": "*/15 6 * * *", "shell": True, **place}
    assert "[uwsgi] socket: speaks HTTP here" in said
    assert "[uwsgi] cron: is not a schedule that forkserve knows: bad" in said
    assert "project" not in said


def test_procfile(imported: Import, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=5001\nURL=postgres://u:p@h/db?x=1#frag\n")
    _, made, said = imported("Procfile.dev", PROCFILE)
    shell = {"copy_env": True, "shell": True, "stop_children": True}
    assert made["watcher"] == {
        "web": {"cmd": "sleep $PORT", **shell},
        "worker": {"cmd": "sleep 100", "copy_env": True},
        "clock": {"cmd": "TZ=UTC sleep 3", **shell},
    }
    assert made["env"] == {"PORT": "5001", "URL": "postgres://u:p@h/db?x=1#frag"}
    assert (tmp_path / "out.toml").stat().st_mode & 0o777 == 0o600
    assert "web $PORT: " in said
    assert "release: " in said


def test_lines_of_a_procfile_without_effect_are_noted_by_their_numbers(imported: Import) -> None:
    odd = "\ufeff  # a\r\n\r\nexport KEY=secret1\nweb: sleep 1 \\\n  --bind :80\nKEY=secret2\n---\nx.y: sleep 2\nz:\n"
    code, made, said = imported("Procfile", odd)
    assert code == 0
    assert set(made["watcher"]) == {"web"}
    assert "not carried: Procfile:3, Procfile:6: a Procfile sets no variables" in said
    assert "not carried: Procfile:5, Procfile:7, Procfile:8, Procfile:9: expected NAME: COMMAND; left out" in said
    assert "secret" not in said


def test_compose(imported: Import) -> None:
    pytest.importorskip("yaml", reason="PyYAML is no dependency")
    _, made, said = imported("compose.yaml", COMPOSE)
    assert made["watcher"]["web"] == {
        "cmd": "sleep 8000",
        "copy_env": True,
        "uid": "0",
        "gid": "0",
        "graceful_timeout": 30,
        "max_retry": -1,
        "after": "worker",
        "env": {"DEBUG": "false", "HOME": "$(circus.env.HOME)", "PRICE": "$5"},
    }
    assert made["watcher"]["worker"]["respawn"] is False
    assert made["watcher"]["worker"]["numprocesses"] == 3
    assert "services.db: " in said
    assert "services.web.build: " in said


SITE = """\
x-common: &common
  env_file: [.env, {path: none.env, required: false}]
  environment: &env {DEBUG: "0", URL: "postgres://shop:${PASSWORD}@db/shop"}
services:
  migrate:
    <<: *common
    command: sleep 1
    restart: "no"
  cache:
    command: ["sleep", "1000"]
    restart: always
    healthcheck: {test: ["CMD", "true", "a b"], interval: 1m30s, retries: 3}
  web:
    <<: *common
    command: >
      sleep
      1000
    depends_on:
      migrate: {condition: service_completed_successfully}
      cache: {condition: service_healthy, restart: true}
    healthcheck: {test: "test -e x || exit 1", start_period: 200s}
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 512M}}}
    ulimits: {nofile: {soft: 1000, hard: 2000}}
    stop_grace_period: 1m30s
    restart: unless-stopped
  work:
    entrypoint: [/bin/sh, -c]
    command: ["sleep $$(echo 100)"]
    environment: {<<: *env, TZ: UTC}
    restart: on-failure:3
    mem_limit: 1gb
    profiles: [work]
  batch:
    command: sleep 1000
    deploy: {restart_policy: {condition: on-failure, max_attempts: 5}, update_config: {parallelism: 1}}
    healthcheck: {disable: true}
"""


def test_compose_as_people_write_it(imported: Import, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML is no dependency")
    (tmp_path / ".env").write_text("PASSWORD=s3cret # mine\nexport KEY=\"a b#c\"\nEMPTY=\n# no\nSINGLE='$x'\n")
    _, made, said = imported("compose.yaml", SITE)
    env = {"PASSWORD": "s3cret", "KEY": "a b#c", "EMPTY": "", "SINGLE": "$x"}
    url = "postgres://shop:$(circus.env.PASSWORD)@db/shop"
    assert made["env"] == {"PASSWORD": "s3cret"}
    assert (tmp_path / "out.toml").stat().st_mode & 0o777 == 0o600
    watchers = made["watcher"]
    assert watchers["migrate"]["ready_after"] == "1d"
    assert watchers["web"] == {
        "cmd": "sleep 1000",
        "copy_env": True,
        "numprocesses": 2,
        "max_retry": -1,
        "graceful_timeout": 90,
        "ready": "exec:sh -c 'test -e x || exit 1'",
        "ready_timeout": 290,
        "max_rss": "512M",
        "rlimit_nofile": 1000,
        "after": "migrate, cache",
        "env": {**env, "DEBUG": "0", "URL": url},
    }
    assert (watchers["cache"]["ready"], watchers["cache"]["ready_timeout"]) == ("exec:true 'a b'", 270)
    assert watchers["work"] == {
        "cmd": "/bin/sh -c 'sleep $(echo 100)'",
        "copy_env": True,
        "max_retry": 3,
        "exitcodes": "0",
        "autostart": False,
        "graceful_timeout": 10,
        "max_rss": "1G",
        "env": {"DEBUG": "0", "URL": url, "TZ": "UTC"},
    }
    assert (watchers["batch"]["max_retry"], "ready" in watchers["batch"]) == (5, False)
    assert "services.batch.deploy.update_config: " in said
    assert "none.env" not in said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1m30s", 90), ("1.5s", 1.5), ("500ms", 0.5), ("1h", 3600), ("x", None), ("", None)],
)
def test_durations_of_compose(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


def test_compose_without_pyyaml_says_what_to_install(imported: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    code, _, said = imported("compose.yaml", COMPOSE)
    assert (code, said) == (
        78,
        "forkserve: error: compose.yaml: PyYAML is needed to read it: pip install PyYAML\n",
    )


def test_circus(imported: Import) -> None:
    _, made, said = imported("circus.ini", CIRCUS)
    assert made == {
        "forkserve": {"check_delay": 5},
        "socket": {"web": {"host": "127.0.0.1", "port": 8000}},
        "watcher": {
            "web": {
                "cmd": "sleep 5$(circus.wid)",
                "use_sockets": True,
                "numprocesses": 2,
                "copy_env": True,
                "rlimit_nofile": "500",
                "graceful_timeout": "2.5",
                "stdout_stream": {"class": "FileStream", "filename": "web.log"},
                "flapping": {"window": "3"},
            }
        },
        "plugin": {"flapping": {"use": "circus.plugins.flapping.Flapping"}},
        "env": {"web*": {"A": "b"}},
    }
    assert [line.split(": ")[2] for line in said.splitlines()[:-1]] == ["[circus] httpd"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.ini", "[other]\na = b\n", "x.ini: unknown format; name it: --from circus|"),
        ("x.conf", "[program:x]\ncommand=x\nnumprocs=many\n", "[program:x] numprocs: expected a whole number"),
        ("x.conf", "[program:x]\ncommand=x\nnumprocs=99999999\n", "numprocs: expected at most 10000"),
        ("x.conf", "[supervisord]\nnodaemon=true\n", "x.conf: nothing to run is in it"),
        ("x.conf", "[program:x\ncommand\n[supervisord]\n", "x.conf"),
        ("x.conf", "[program:x]\ncommand=x\nenvironment=A\n", "[program:x] environment: expected KEY"),
        ("Procfile", "# a\nweb: sleep 1\n\nweb: sleep 2\n", "Procfile:4: web is in line 2 already"),
        ("compose.yaml", "services: [\n", "compose.yaml: "),
        ("compose.yaml", "- a\n", "compose.yaml: no services"),
        ("circus.ini", "[circus]\nnonsense\n", "circus.ini:2: expected KEY = VALUE"),
    ],
)
def test_a_mistake_is_one_line(name: str, text: str, said: str, imported: Import) -> None:
    code, _, stderr = imported(name, text)
    assert code == 78
    assert stderr.startswith("forkserve: error: ")
    assert said in stderr
    assert stderr.count("\n") == 1


def test_a_folder_is_told_by_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path)]) == 78
    assert capfd.readouterr().err == f"forkserve: error: {tmp_path}: cannot be read: Is a directory\n"


def test_what_is_wrong_in_the_source_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.conf"
    file.write_text("[program:x]\ncommand=sleep 1\nstopsignal=NONSENSE\n")
    assert main(["import", str(file)]) == 0
    out, err = capfd.readouterr()
    assert tomllib.loads(out)["watcher"]["x"]["cmd"] == "sleep 1"
    assert "to be fixed: forkserve.toml:" in err
    assert "stop_signal" in err


def test_a_file_that_is_there_is_replaced_only_by_force(imported: Import, tmp_path: Path) -> None:
    imported("Procfile", "web: sleep 1\n")
    before = (tmp_path / "out.toml").read_text()
    (tmp_path / "Procfile").write_text("web: sleep 2\n")
    assert main(["import", "Procfile", "-o", "out.toml"]) == 2
    assert (tmp_path / "out.toml").read_text() == before
    assert main(["import", "Procfile", "-o", "out.toml", "--force"]) == 0
    assert "sleep 2" in (tmp_path / "out.toml").read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["Procfile", "out.toml", "shop.py"]


@pytest.mark.parametrize("name", ["supervisord.conf", "uwsgi.ini", "gunicorn.conf.py", "Procfile", "compose.yaml"])
def test_a_start_with_such_a_file_says_how_to_import_it(name: str, tmp_path: Path) -> None:
    text = {"supervisord.conf": SUPERVISORD, "uwsgi.ini": UWSGI}.get(name, "bind = ':1'\n")
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        [FOLDER / "forkserve", "-c", name],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode in (2, 78)
    assert "forkserve import " in done.stderr


SHOP = """\
[supervisord]
nodaemon=true
logfile=%(here)s/master.log
logfile_maxbytes=1KB
logfile_backups=1
[program:web]
command=sh -c 'echo out; echo err >&2; exec sleep 1000'
process_name=%(program_name)s_%(process_num)02d
numprocs=2
redirect_stderr=true
stdout_logfile=%(here)s/web_%(process_num)d.log
[program:once]
command=sh -c 'exit 2'
exitcodes=0,2
startsecs=0
stdout_logfile=/dev/stdout
"""


@pytest.mark.slow
def test_an_imported_file_runs_as_under_supervisord(imported: Import, tmp_path: Path) -> None:
    imported("supervisord.conf", SHOP)
    with running("-c", "out.toml", "--control", "c.sock", cwd=tmp_path) as server:
        log = tmp_path / "web_1.log"
        eventually(lambda: log.exists() and log.read_text().split() == ["out", "err"])

        def ctl(*argv: str) -> str:
            done = commands.ctl(tmp_path, "--socket", "c.sock", *argv)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert ctl("start", "web:*") == "web: 2 processes running\n"
        states = {each["name"]: each["state"] for each in json.loads(ctl("status", "--json"))}
        assert states == {"web": "active", "once": "stopped"}
        assert ctl("stop", "web:web_01") == "web:web_01: stopped\n"
        (web,) = json.loads(ctl("status", "web:*", "--json"))
        assert [each["name"] for each in web["processes"]] == ["web:web_00"]
        assert ctl("start", "web:web_01") == "web:web_01: started\n"
        assert ctl("logs", "web_01").split() == ["web:web_01", "|", "out", "web:web_01", "|", "err"] * 2
        assert server.stop() == 0
    assert sorted(each.name for each in tmp_path.glob("master.log*")) == ["master.log", "master.log.1"]
    assert "INFO forkserve.master: stopped" in (tmp_path / "master.log").read_text()
