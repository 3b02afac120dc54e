"""What could come next on a line of forkservectl, by its real parser; the names are those of a master made up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.cli.commandline import command_line
from forkserve.cli.completing import FILES, KindOfName, completions
from forkserve.cli.ctlparser import ctl_parser
from forkserve.cli.ownverbs import ALL_VERBS
from forkserve.cli.shell import CommandShell, history_file

LINE = command_line(ctl_parser())
NAMES = {
    KindOfName.WATCHERS: ["web", "worker"],
    KindOfName.SOCKETS: ["api"],
    KindOfName.ASSIGNMENTS: ["numprocesses=", "max_age="],
    KindOfName.SOCKET_ASSIGNMENTS: ["port="],
    KindOfName.OPTIONS: ["numprocesses", "max_age"],
    KindOfName.INSTANCES: ["shop"],
    KindOfName.SIGNALS: ["HUP", "TERM"],
}


def words(typed: str) -> list[str]:
    """Return what may stand for the last word of a line, which a blank at its end leaves empty."""
    *before, last = typed.split(" ")
    return [each.word for each in completions(LINE, before, last, lambda names: NAMES[names])]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("relo", ["reload", "reloadconfig"]),
        ("reload ", ["web", "worker"]),
        ("reload wo", ["worker"]),
        ("reload web ", []),
        ("reload web --ca", ["--canary"]),
        ("reload --canary ", []),
        ("reload --canary 1 w", ["web", "worker"]),
        ("logs -n 5 we", ["web"]),
        ("set web n", ["numprocesses="]),
        ("set web max_age=1 n", ["numprocesses="]),
        ("set ", ["web", "worker"]),
        ("get web m", ["max_age"]),
        ("setsocket api ", ["port="]),
        ("signal web T", ["TERM"]),
        ("maintenance o", ["off", "on"]),
        ("maintenance on ", [":files"]),
        ("maintenance on page.html --watcher ", ["web", "worker"]),
        ("completion z", ["zsh"]),
        ("top --sort c", ["cpu", "connections"]),
        ("start --match ", ["glob", "regex", "simple"]),
        ("upgrade --python ", [":files"]),
        ("-n ", ["shop"]),
        ("-n shop -c ", [":files"]),
        ("-n shop stat", ["status", "stats"]),
        ("--soc", ["--socket"]),
        ("--socket ", [":files"]),
        ("--socket c.sock rmsocket ", ["api"]),
        ("--json reload w", ["web", "worker"]),
        ("version ", []),
        ("nonsense ", []),
    ],
)
def test_what_may_come_next(typed: str, expected: list[str]) -> None:
    assert words(typed) == expected


def test_no_word_or_flag_of_a_verb_shares_its_place_with_a_flag_for_all_verbs() -> None:
    """`addsocket NAME` once took the place of `--socket PATH`, and no master was found."""
    of_all = {flag.dest for flag in LINE.flags} - {"help", "json", "prettify"}
    for verb in LINE.verbs:
        mine = {each.dest for each in verb.flags} | {each.name for each in verb.words}
        assert not of_all & mine, verb.name


def test_every_verb_can_be_completed_and_has_help() -> None:
    assert [*ALL_VERBS, "listen"] == [each.name for each in LINE.verbs]
    assert all(each.help for each in LINE.verbs)
    assert all(flag.help for verb in LINE.verbs for flag in verb.flags)


def test_the_shell_offers_a_word_with_the_space_behind_it() -> None:
    shell = CommandShell(LINE, lambda names: NAMES[names], lambda _words: 0, prompt="> ")

    assert shell.candidates("", "e") == ["events ", "exit "]
    assert shell.candidates("set web ", "n") == ["numprocesses="]
    assert shell.candidates("reload 'web", "") == []
    assert FILES.word not in shell.candidates("maintenance on ", "")


def test_the_history_lies_where_such_things_do() -> None:
    assert history_file({"HOME": "/home/a"}) == Path("/home/a/.local/state/forkserve/history")
    assert history_file({"HOME": "/home/a", "XDG_STATE_HOME": "/s"}) == Path("/s/forkserve/history")
    assert history_file({}) is None


def ctl(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkserve.cli.ctl", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)


def test_without_a_verb_and_a_terminal_one_is_asked_for() -> None:
    done = ctl()
    assert (done.returncode, done.stderr) == (2, "forkservectl: error: give a verb (see forkservectl --help)\n")
