"""Asks the system whether the names in a configuration exist: users, groups, folders, programs.

Rules: reads only. What cannot work is an error, what may exist by the time it is needed is a warning.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forkserve.config.address import parse_address
from forkserve.config.document import Findings
from forkserve.config.loggerconfig import fault_of
from forkserve.config.model import Config, MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import Origin
from forkserve.config.placeholders import names_in, unset_text
from forkserve.config.plugins import foreign_class
from forkserve.config.preloading import OWN_PROGRAMS, WORKER
from forkserve.config.values import is_file, words
from forkserve.config.virtualenv import Virtualenv, read_virtualenv
from forkserve.errors import ConfigError
from forkserve.suggest import nearest

__all__ = ["find_program", "verify"]


def verify(config: Config, environ: Mapping[str, str], findings: Findings) -> None:
    """Report every user, group and folder that does not exist; nothing is opened or created.

    `environ` is the master's environment, whose PATH a watcher with `copy_env` inherits.
    """
    for socket in config.sockets:
        _Verifier(config, findings, f"socket:{socket.name}").socket(socket)
    for watcher in config.watchers:
        _Verifier(config, findings, f"watcher:{watcher.name}").watcher(watcher, environ)
    _Verifier(config, findings, "circus").master(config.master)


def find_program(program: str, path: str) -> str | None:
    """Return the full path of a program: from `path`, or for our own, from the folder of the running Python.

    So `venv/bin/forkserve` finds `forkserve-worker` beside it without an activated environment.
    """
    beside = os.path.dirname(sys.executable) if os.path.basename(program) in OWN_PROGRAMS else ""
    return shutil.which(program, path=path) or (shutil.which(program, path=beside) if beside else None)


def _account_name(uid: int) -> str | None:
    """Return the name of the user: a container may run under a number that /etc/passwd does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _first_word(command: str) -> str:
    try:
        return words(command)[0]
    except (ValueError, IndexError):
        # noted by the consistency check
        return "/"


class _Verifier:
    def __init__(self, config: Config, findings: Findings, title: str) -> None:
        self.origins = config.origins
        self.findings = findings
        self.title = title
        self.label = config.labels.get(title, title)

    def master(self, master: MasterOptions) -> None:
        if master.pidfile:
            self.folder_of("pidfile", master.pidfile)
        if is_file(master.logoutput):
            self.folder_of("logoutput", master.logoutput)
        if master.loggerconfig is not None and (fault := fault_of(master.loggerconfig)):
            self._error("loggerconfig", fault)
        if master.control not in ("auto", "none"):
            self.folder_of("control", master.control)
        self._endpoints(master)
        self._gateway(master)

    def socket(self, socket: SocketOptions) -> None:
        self._user("owner", socket.owner)
        self._group("group", socket.group)
        if socket.path and not socket.path.startswith("@"):
            self.folder_of("path", socket.path)

    def watcher(self, watcher: WatcherOptions, environ: Mapping[str, str]) -> None:
        self._user("uid", watcher.uid)
        self._group("gid", watcher.gid)
        self._identity(watcher)
        if watcher.working_dir and not names_in(watcher.working_dir) and not os.path.isdir(watcher.working_dir):
            self._error("working_dir", f"no such directory: {watcher.working_dir}")
        self._stream("stdout_stream", watcher.stdout_stream)
        self._stream("stderr_stream", watcher.stderr_stream)
        foreign = foreign_class(watcher)
        if foreign and find_spec("zmq") is None:
            missing = f"{foreign} cannot run, since pyzmq is missing: pip install 'forkserve[circus]' circus"
            self._note(self.findings.failure, "use", missing)
        self._program(watcher, environ)

    def folder_of(self, key: str, path: str) -> None:
        folder = Path(path).parent
        if not self._is_unset(key, path) and not folder.is_dir():
            self._error(key, f"no such directory: {folder}")

    def _endpoints(self, master: MasterOptions) -> None:
        self._user("endpoint_owner", master.endpoint_owner)
        for key in ("endpoint", "pubsub_endpoint", "stats_endpoint"):
            address = getattr(master, key)
            if address is None:
                continue
            if address.startswith("ipc://"):
                self.folder_of(key, address.removeprefix("ipc://"))
            if find_spec("zmq") is None:
                missing = "not served, since pyzmq is missing: pip install 'forkserve[circus]'"
                self._note(self.findings.warning, key, missing)

    def _gateway(self, master: MasterOptions) -> None:
        if master.control_bind is None:
            return
        if master.control_token is None:
            self._error("control_bind", "needs a control_token: the file with the token that clients have")
        host = parse_address(master.control_bind).host
        if master.control_certfile is None and host not in ("localhost", "::1") and not host.startswith("127."):
            self._error("control_bind", "needs a control_certfile, since other machines can reach it")
        for key in ("control_token", "control_certfile", "control_keyfile"):
            path = getattr(master, key)
            if path is not None and not os.path.isfile(path):
                self._error(key, f"no such file: {path}")

    def _identity(self, watcher: WatcherOptions) -> None:
        """Check a user: only root can become another one."""
        if os.geteuid() == 0 or watcher.uid is None or unset_text(watcher.uid):
            return
        if watcher.uid not in (_account_name(os.geteuid()), str(os.geteuid())):
            self._error(
                "uid", f"only root may run processes as {watcher.uid!r}; start forkserve as root, or leave it out"
            )

    def _stream(self, name: str, stream: StreamOptions | None) -> None:
        if stream is not None and stream.filename:
            self.folder_of(f"{name}.filename", stream.filename)

    def _user(self, key: str, name: str | None) -> None:
        self._account(
            key, name, what="user", find=pwd.getpwnam, names=lambda: (each.pw_name for each in pwd.getpwall())
        )

    def _group(self, key: str, name: str | None) -> None:
        self._account(
            key, name, what="group", find=grp.getgrnam, names=lambda: (each.gr_name for each in grp.getgrall())
        )

    def _account(
        self, key: str, name: str | None, *, what: str, find: Callable[[str], Any], names: Callable[[], Iterable[str]]
    ) -> None:
        if name is None or name.isdecimal() or self._is_unset(key, name):
            return
        try:
            find(name)
        except KeyError:
            self._error(key, f"unknown {what} {name!r}{nearest(name, names())}")

    def _program(self, watcher: WatcherOptions, environ: Mapping[str, str]) -> None:
        """Report a program that is not found where it will be looked for."""
        path = self._path(watcher, environ)
        program = watcher.executable or _first_word(watcher.cmd)
        if path is None or watcher.shell or names_in(program) or program == "/":
            return
        if "/" in program:
            self._program_at(program, watcher.working_dir)
            return
        found = find_program(program, path)
        if found is not None:
            self._interpreter_of(Path(found))
        else:
            cure = "" if watcher.copy_env else "; copy_env is off, so set PATH in an env section or copy_env = True"
            self._note(self.findings.failure, "cmd", f"{program!r} is not found on the PATH{cure}")

    def _path(self, watcher: WatcherOptions, environ: Mapping[str, str]) -> str | None:
        """Return the PATH of a watcher's processes; None, and why, if its virtualenv leaves it unknown."""
        env = {**(environ if watcher.copy_env else {}), **watcher.env}
        if watcher.virtualenv is not None:
            if unset_text(watcher.virtualenv):  # noted when it was read
                return None
            try:
                found = read_virtualenv(os.path.abspath(watcher.virtualenv), watcher.virtualenv_py_ver)
            except ConfigError as error:
                self._note(self.findings.failure, "virtualenv", str(error))
                return None
            env |= found.variables(env)
            self._other_python(watcher, found, env["PATH"])
        return env.get("PATH", os.defpath)

    def _other_python(self, watcher: WatcherOptions, found: Virtualenv, path: str) -> None:
        """Warn about a program beside our Python that is to import what was installed for another version."""
        program, ours = _first_word(watcher.cmd), "{}.{}".format(*sys.version_info[:2])
        if os.path.basename(program) != WORKER or "--python" in watcher.cmd or found.version == ours:
            return
        file = program if "/" in program else find_program(program, path)
        if file is not None and os.path.dirname(os.path.abspath(file)) == os.path.dirname(sys.executable):
            message = f"{program} runs under Python {ours}, with packages of Python {found.version}: install forkserve"
            self._note(self.findings.warning, "virtualenv", f"{message} into {watcher.virtualenv} as well")

    def _program_at(self, program: str, working_dir: str | None) -> None:
        if working_dir and names_in(working_dir):
            return
        path = Path(working_dir or ".") / program
        if path.is_file() and os.access(path, os.X_OK):
            self._interpreter_of(path)
            return
        reason = "is not executable" if path.is_file() else "is no file" if path.exists() else "does not exist"
        elsewhere = working_dir and not os.path.isabs(program) and Path(program).exists()
        hint = f"; it is taken from working_dir, so write {Path(program).absolute()}" if elsewhere else ""
        self._note(self.findings.failure, "cmd", f"{path} {reason}{hint}")

    def _interpreter_of(self, script: Path) -> None:
        """Check the program in the first line of a script (execve(2))."""
        try:
            with script.open("rb") as file:
                first = file.readline(256)
        except OSError:  # it may be executed and not read
            return
        words = first[2:].split() if first.startswith(b"#!") else []
        if words and not os.path.exists(words[0]):
            named = os.fsdecode(words[0])
            self._note(self.findings.failure, "cmd", f"{script} names an interpreter that does not exist: {named}")

    def _is_unset(self, key: str, text: str) -> bool:
        """Tell whether a variable is missing in a text that needs it, and report only that."""
        unset = unset_text(text)
        if unset:
            self._error(key, unset)
        return bool(unset)

    def _error(self, key: str, message: str) -> None:
        self._note(self.findings.error, key, message)

    def _note(self, note: Callable[..., None], key: str, message: str) -> None:
        origin = self.origins.get((self.title, key)) or self._section_origin()
        note(origin, message, label=self.label, key=key)

    def _section_origin(self) -> Origin:
        for (title, _), origin in self.origins.items():
            if title == self.title:
                return Origin(origin.source)
        return Origin("configuration")
