"""A real nginx for one test: the example's configuration on a socket that the test has bound, all files in one folder.

nginx takes listening sockets from the variable NGINX, "3;4;", as it does when it replaces itself
(https://nginx.org/en/docs/control.html#upgrade), and matches them with its `listen` lines by their address.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import program
from tests.support.serving import bound

__all__ = ["NGINX", "nginx"]

PATIENCE = 20.0
_ACCOUNTS = [each for each in pwd.getpwall() if each.pw_name in ("www-data", "nobody")]
NGINX = max(_ACCOUNTS, key=lambda each: each.pw_name) if os.geteuid() == 0 else None
"""The account of nginx's workers, another one than forkserve's; None where only root could change to it."""
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "nginx" / "nginx.conf"
_LISTEN = "listen 127.0.0.1:8080;"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _configuration(folder: Path, listener: socket.socket, changes: dict[str, str]) -> str:
    """The example with one worker, with its files in `folder`; `changes` are pieces of text and what replaces them."""
    text = EXAMPLE.read_text()
    places = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    port = listener.getsockname()[1]
    user = f"user {NGINX.pw_name} {grp.getgrgid(NGINX.pw_gid).gr_name}; " if NGINX is not None else ""
    for old, new in {
        **changes,
        _LISTEN: f"listen 127.0.0.1:{port};",
        "http {": f"http {{\n    access_log off;\n{places}",
        # With `master_process off`, 1.22 dies of an inherited socket.
        "worker_processes auto;": f"{user}daemon off; worker_processes 1; pid {folder}/nginx.pid;\n"
        f"error_log {folder}/error.log warn;",
    }.items():
        assert old in text, f"{old!r} is not in the example"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def nginx(folder: Path, changes: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Run nginx and give its address; afterwards it must end at once and have nothing to complain of."""
    path = program("nginx")
    with contextlib.closing(bound()) as listener:
        (folder / "nginx.conf").write_text(_configuration(folder, listener, changes))
        process = subprocess.Popen(
            [path, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
        try:
            yield listener.getsockname()
            process.send_signal(signal.SIGQUIT)
            assert process.wait(PATIENCE) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE)
    lines = (folder / "error.log").read_text().splitlines()
    # How it came by its socket is a notice to nginx.
    bad = [line for line in lines if any(level in line for level in ("[error]", "[crit]", "[alert]", "[emerg]"))]
    assert not bad, "\n".join(bad)
