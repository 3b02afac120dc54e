"""Whom `forkservectl` asks, and what of the answer reaches the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.cli.ctl import main
from forkserve.control.place import live_sockets
from forkserve.control.printable import printable, printable_answer

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
STRANGER = 65534
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2028\r\x00"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@contextlib.contextmanager
def answering(path: Path, body: bytes, *, status: str = "200 OK") -> Iterator[None]:
    """Listen at `path`, and give the same answer to the first who asks."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as client:
                asked = b""
                while not asked.endswith(b"}"):
                    asked += client.recv(65536) or b"}"
                client.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join(20)


@AS_ROOT
@pytest.mark.parametrize("whose", ["folder", "socket"])
def test_a_socket_that_another_user_has_placed_is_not_asked(
    whose: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "control.sock"
    with answering(path, b"[]"):
        os.chown(folder if whose == "folder" else path, STRANGER, STRANGER)

        assert main(["--socket", str(path), "status"]) == 1
    assert capsys.readouterr().err.endswith("run forkservectl as the user that runs forkserve\n")


@AS_ROOT
def test_a_program_of_another_user_is_not_asked_wherever_it_listens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "control.sock"
    os.chmod(folder, 0o777)
    reading, writing = os.pipe()
    stranger = os.fork()
    if stranger == 0:
        try:
            os.setuid(STRANGER)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen()
            os.write(writing, b".")
            listener.accept()[0].recv(100)
        finally:
            os._exit(0)
    os.read(reading, 1)
    os.chown(path, 0, 0)

    assert main(["--socket", str(path), "status"]) == 1
    os.waitpid(stranger, 0)
    os.close(reading)
    os.close(writing)
    assert "the program that listens there belongs to nobody" in capsys.readouterr().err


@AS_ROOT
def test_a_folder_that_another_user_has_made_first_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    (folder / "forkserve").mkdir(mode=0o755)
    os.chown(folder / "forkserve", STRANGER, STRANGER)
    with answering(folder / "forkserve" / "a.sock", b"[]"):
        assert not any(each.is_relative_to(folder) for each in live_sockets())


@pytest.mark.parametrize("status", ["200 OK", "409 Conflict"])
def test_control_characters_of_the_other_side_do_not_reach_the_terminal(
    status: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"message": HOSTILE, "error": HOSTILE}).encode()
    with answering(folder / "control.sock", body, status=status):
        main(["--socket", str(folder / "control.sock"), "stop"])
    shown = "".join(capsys.readouterr())

    assert "gnp.exe" in shown
    assert all(each.isprintable() or each == "\n" for each in shown)


@pytest.mark.parametrize("body", [b"[1]", b"null", b'{"message": {"a": 1}}', b"[" * 100_000, b"nothing"])
def test_an_answer_of_another_shape_is_one_line(body: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(folder / "control.sock", body):
        code = main(["--socket", str(folder / "control.sock"), "status"])
    captured = capsys.readouterr()

    assert "Traceback" not in captured.err
    assert code == 1


def test_text_is_shown_as_it_is_but_for_what_does_not_show() -> None:
    assert printable("wéb\n\x1b[1m\ud800") == "wéb\n\\x1b[1m\\ud800"
    assert printable_answer([{"name": "a\nb\x00", "n": 1}, None]) == [{"name": "a\\nb\\x00", "n": 1}, None]
    assert printable_answer({"env": {"\x1b]0;A\x07": "b"}}) == {"env": {"\\x1b]0;A\\x07": "b"}}
