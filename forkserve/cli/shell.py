"""The shell of forkservectl: one line after another, with completion and a private history.

Ctrl-C cancels the line, or the wait for a verb; Ctrl-D leaves. `quit`, which leaves other shells, would end forkserve:
it needs a confirmation.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from forkserve.cli.commandline import CommandLine
from forkserve.cli.completing import FILES, Ask, completions
from forkserve.cli.ending import ended, say, tell

__all__ = ["CommandShell", "history_file"]

KEPT = 1000
"""Lines of the history."""
_LEAVE = ("exit", "logout")


class CommandShell:
    """Reads lines and runs them; `run` runs the words of one, and returns its exit code."""

    def __init__(self, line: CommandLine, names: Ask, run: Callable[[Sequence[str]], int], *, prompt: str) -> None:
        self._line = line
        self._names = names
        self._run = run
        self._prompt = prompt
        self._found: list[str] = []

    def loop(self) -> int:
        """Run lines until there are no more; returns the exit code of the last."""
        is_terminal = sys.stdin.isatty()
        code = 0
        with _editing(self._complete) if is_terminal else contextlib.nullcontext():
            while True:
                try:
                    text = input(self._prompt if is_terminal else "")
                except KeyboardInterrupt:
                    say("\n")
                    continue
                except EOFError:
                    say("\n" if is_terminal else "")
                    return code
                words = self._words(text)
                if words and words[0] in _LEAVE:
                    return code
                if words and self._is_meant(words, is_terminal=is_terminal):
                    code = ended("forkservectl", partial(self._run, words))

    def _words(self, text: str) -> list[str]:
        try:
            words = shlex.split(text, comments=True)
        except ValueError as error:
            tell(f"forkservectl: error: {error}\n")
            return []
        if words[:1] == ["help"]:
            return [*words[1:2], "--help"]
        return words

    def _is_meant(self, words: Sequence[str], *, is_terminal: bool) -> bool:
        if words[0] != "quit" or not is_terminal or len(words) > 1:
            return True
        try:
            answer = _answer("quit ends forkserve itself; `exit` leaves this shell. Go on? y/n ")
        except (KeyboardInterrupt, EOFError):
            say("\n")
            return False
        return answer.strip().lower() in ("y", "yes")

    def _complete(self, word: str, state: int) -> str | None:
        """Return one candidate after another, as readline asks for them."""
        if state == 0:
            import readline

            self._found = self.candidates(readline.get_line_buffer()[: readline.get_begidx()], word)
        return self._found[state] if state < len(self._found) else None

    def candidates(self, before: str, word: str) -> list[str]:
        """Return possible words, each followed by a space."""
        try:
            words = shlex.split(before)
        except ValueError:
            return []
        found = completions(self._line, words, word, self._names)
        own = [each for each in (*_LEAVE[:1], "help") if each.startswith(word)] if not words else []
        texts = [each.word for each in found if each is not FILES] + own
        return [each if each.endswith("=") else f"{each} " for each in texts]


def _answer(question: str) -> str:
    """Ask a question whose answer does not go into the history."""
    answer = input(question)
    readline = sys.modules.get("readline")
    if readline is not None and answer:
        readline.remove_history_item(readline.get_current_history_length() - 1)
    return answer


@contextlib.contextmanager
def _editing(complete: Callable[[str, int], str | None]) -> Iterator[None]:
    """Enable editing and completion of lines, with the former history; without readline they are only read."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    readline.parse_and_bind("tab: complete")
    path = history_file(os.environ)
    _read_history(readline, path)
    try:
        yield
    finally:
        readline.set_completer(None)
        _write_history(readline, path)


def history_file(environ: os._Environ[str] | dict[str, str]) -> Path | None:
    """Return the path of the history (XDG Base Directory); None without a home."""
    folder, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(folder):
        return Path(folder) / "forkserve" / "history"
    return Path(home) / ".local" / "state" / "forkserve" / "history" if os.path.isabs(home) else None


def _read_history(readline: ModuleType, path: Path | None) -> None:
    readline.set_history_length(KEPT)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path is not None and _is_ours(path):
            readline.read_history_file(path)


def _write_history(readline: ModuleType, path: Path | None) -> None:
    """Write the history, readable only by its owner; ignored if that fails."""
    if path is None:
        return
    before = os.umask(0o077)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or _is_ours(path):
            readline.write_history_file(path)
            path.chmod(0o600)
    except OSError:
        return
    finally:
        os.umask(before)


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
