"""Stacks of the tests that replace a master: watchers that serve, that write numbers, and that say WATCHDOG=1."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.serving import COMMAND

__all__ = ["DOG", "WRITER", "put_app", "put_dog", "put_writer", "web"]

_APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""

_SENDER = """
import os, select, signal, socket
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def tell(text):
    sender.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
tell("READY=1")
"""
"""What sd_notify(3) does, for a program that ends at once."""

WRITER = f"""
[watcher:writer]
cmd = {sys.executable} -S writer.py
stdout_stream.class = FileStream
stdout_stream.filename = writer.log
"""
"""The watcher of `put_writer`."""

DOG = f"""
[watcher:dog]
cmd = {sys.executable} -S dog.py
copy_env = True
watchdog = 5
"""
"""The watcher of `put_dog`."""


def put_app(folder: Path) -> None:
    """Write the application `app:app`, which answers hello."""
    (folder / "app.py").write_text(_APP)


def put_writer(folder: Path, *, pause: float = 0.005, answers_usr1: bool = False) -> None:
    """Write what prints 0, 1, 2 ..., a line every `pause` seconds: a gap or a repetition shows in writer.log.

    With `answers_usr1` it says READY=1, and STATUS=told at SIGUSR1.
    """
    begin = f"{_SENDER}signal.signal(signal.SIGUSR1, lambda *_: tell('STATUS=told'))\n" if answers_usr1 else ""
    loop = f"while True:\n    print(number, flush=True)\n    number += 1\n    select.select((), (), (), {pause})\n"
    (folder / "writer.py").write_text(f"{begin}import select\nnumber = 0\n{loop}")


def put_dog(folder: Path, body: str, *, pause: float) -> None:
    """Write what says READY=1, then WATCHDOG=1 every `pause` seconds, and runs `body` each time, with its `number`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    loop = f"while True:\n    tell('WATCHDOG=1')\n{lines}    number += 1\n    select.select((), (), (), {pause})\n"
    (folder / "dog.py").write_text(f"{_SENDER}number = 0\n{loop}")


def web(
    port: int | str, *, name: str = "web", sock: str = "web", grace: int = 5, own: bool = False, more: str = ""
) -> str:
    """Return a socket at a port of 127.0.0.1 and two workers on it; with `own` each has its own queue."""
    return f"""
[socket:{sock}]
host = 127.0.0.1
port = {port}
so_reuseport = {own}
[watcher:{name}]
cmd = {COMMAND} --fd $(circus.sockets.{sock}) app:app
use_sockets = True
copy_env = True
numprocesses = 2
graceful_timeout = {grace}
{more}"""
