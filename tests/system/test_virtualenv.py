"""The option `virtualenv`: programs and packages of real environments, made by venv, of this Python and of others."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from forkserve.config.virtualenv import Virtualenv, read_virtualenv
from forkserve.errors import ConfigError
from tests.support.forkserving import running
from tests.support.serving import PATIENCE
from tests.system.test_check import check

VERSION = "{}.{}".format(*sys.version_info[:2])
SHOW = """\
import os, sys, time, mine
print("prefix", sys.prefix, mine.NAME, os.environ["PYTHONPATH"], flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a module of its own, and a folder that a .pth file names."""
    folder = tmp_path_factory.mktemp("envs") / "site"
    made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(made, check=True, timeout=PATIENCE)
    (_packages(folder) / "mine.py").write_text("NAME = 'of the environment'\n")
    (folder.parent / "edited").mkdir()
    (_packages(folder) / "edited.pth").write_text("# a comment\n\nimport os\n../../../../edited\n/nowhere/at/all\n")
    tool = folder / "bin" / "serve-it"
    tool.write_text(f"#!{folder}/bin/python\n{SHOW}")
    tool.chmod(0o755)
    return folder


def _packages(folder: Path) -> Path:
    return folder / "lib" / f"python{VERSION}" / "site-packages"


def _old(folder: Path, *versions: str) -> Path:
    """An environment as another Python, or several, would have left it."""
    (folder / "bin").mkdir(parents=True)
    for version in versions:
        (folder / "lib" / version / "site-packages").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("copy_env", ["True", "False"])
def test_a_bare_program_and_its_packages_are_those_of_the_environment(
    tmp_path: Path, venv: Path, copy_env: str
) -> None:
    config = f"[watcher:a]\ncmd = serve-it\ncopy_env = {copy_env}\nvirtualenv = {venv}\n"
    with running(cwd=tmp_path, config=config) as server:
        found = server.expect(r"^prefix (\S+) of the environment (\S+)$")

        assert found[1] == str(venv)
        assert found[2].split(os.pathsep) == [str(venv.parent / "edited"), str(_packages(venv))]


def test_a_relative_one_is_taken_from_the_folder_of_the_master(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "env").symlink_to(venv)
    config = "[watcher:a]\ncmd = sh -c 'echo \"path $PATH\"; exec sleep 1000'\nvirtualenv = env\nworking_dir = /\n"
    with running(cwd=tmp_path, config=config + "[env:a]\nPATH = /bin\nPYTHONPATH = /before\n") as server:
        assert server.expect(r"^path (\S+)$")[1] == f"{tmp_path}/env/bin:/bin"


def test_one_that_is_missing_is_fatal_for_its_watcher_alone(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nvirtualenv = gone\n[watcher:b]\ncmd = sleep 1000\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("given up")
        server.expect(rf"a\[1\] virtualenv: no such directory: {tmp_path}/gone; make it by")
        server.started("b[1]")


def test_check_says_what_is_no_environment_and_finds_programs_in_its_bin(tmp_path: Path, venv: Path) -> None:
    old = _old(tmp_path / "old", "python3.4")
    (tmp_path / "text").mkdir()
    watchers = {"a": ("serve-it", venv), "b": ("serve-it", old), "c": ("sleep 1", "text"), "d": ("sleep 1", "gone")}
    text = "".join(f"[watcher:{n}]\ncmd = {cmd}\nvirtualenv = {env}\n" for n, (cmd, env) in watchers.items())

    code, said = check(tmp_path, text + "[watcher:e]\ncmd = sleep 1\nvirtualenv_py_ver = 3.4\n")

    assert code == 78
    assert said == [
        "warning: a.ini:15 [watcher:e] virtualenv_py_ver: needs virtualenv, ignored",
        "error: a.ini:5 [watcher:b] cmd: 'serve-it' is not found on the PATH; "
        "copy_env is off, so set PATH in an env section or copy_env = True",
        f"error: a.ini:9 [watcher:c] virtualenv: {tmp_path}/text is not a Python environment, "
        "it has no lib/python*/site-packages",
        f"error: a.ini:12 [watcher:d] virtualenv: no such directory: {tmp_path}/gone; "
        f"make it by: python3 -m venv {tmp_path}/gone",
    ]


def test_check_warns_of_our_worker_with_packages_of_another_python(tmp_path: Path) -> None:
    _old(tmp_path / "old", "python3.4")
    (tmp_path / "site_v.py").write_text("def app(environ, start): ...\n")
    code, said = check(tmp_path, "[watcher:a]\ncmd = forkserve-worker site_v:app\nvirtualenv = old\n")

    assert code == 0
    assert f"runs under Python {VERSION}, with packages of Python 3.4: install forkserve into old" in said[0]


@pytest.mark.parametrize(
    ("versions", "asked", "made_for", "chosen"),
    [
        (["python3.4"], None, None, "3.4"),
        (["pypy3.10"], None, None, "3.10"),
        (["python3.4", "python3.5"], "3.5", None, "3.5"),
        (["python3.4", "python3.5"], None, "version = 3.4.9", "3.4"),
        (["python3.4", "python3.5"], None, "version_info = 3.5.1.final.0", "3.5"),
        (["python3.4", f"python{VERSION}"], None, None, VERSION),
    ],
)
def test_the_version_is_the_one_asked_for_then_its_own_then_ours(
    tmp_path: Path, versions: list[str], asked: str | None, made_for: str | None, chosen: str
) -> None:
    folder = _old(tmp_path / "env", *versions)
    if made_for:
        (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\n{made_for}\n")

    assert read_virtualenv(str(folder), asked).version == chosen


@pytest.mark.parametrize(
    ("versions", "asked", "said"),
    [
        (["python3.4"], "3.5", "has Python 3.4, not 3.5: correct virtualenv_py_ver, or leave it out"),
        (["python3.4", "python3.5"], None, "has Python 3.4 and 3.5: choose one by virtualenv_py_ver"),
        ([], None, "not a Python environment, it has no lib/python"),
    ],
)
def test_a_version_that_is_not_there_or_not_clear_is_refused(
    tmp_path: Path, versions: list[str], asked: str | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_virtualenv(str(_old(tmp_path / "env", *versions)), asked)


def test_what_pythonpath_had_stands_between_linked_folders_and_site_packages() -> None:
    found = Virtualenv("/e/bin", "/e/lib/python3.4/site-packages", ("/src",))

    assert found.variables({"PYTHONPATH": "/mine::/src", "PATH": "/bin"}) == {
        "PATH": "/e/bin:/bin",
        "PYTHONPATH": "/src:/mine:/e/lib/python3.4/site-packages",
    }


def test_the_environment_that_runs_this_is_one() -> None:
    found = read_virtualenv(sys.prefix, None)

    assert (found.version, found.site_packages) == (VERSION, sysconfig.get_path("purelib"))
