"""`forkservectl`: asks the master that runs here, and prints what it says.

Exit codes: 0 done, 1 refused by the master or no master there, 1 of `status` when something is fatal, 2 bad usage, 75
no answer in time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from forkserve import __version__
from forkserve.cli.ending import ended, say, tell
from forkserve.cli.helptext import CommandLineParser
from forkserve.cli.instances import chosen
from forkserve.cli.progress import progress
from forkserve.cli.screens import has_failed, status_screen
from forkserve.cli.tables import render, size
from forkserve.control.client import ControlClient
from forkserve.control.printable import printable, printable_answer
from forkserve.errors import ControlError, ExitCode, UsageError
from forkserve.suggest import nearest
from forkserve.wording import exact_duration

__all__ = ["main"]

Arguments = argparse.Namespace
Answer = Any
"""What msgspec and JSON know: dictionaries, lists, text, numbers, true, false, null."""
PRINTED: Answer = object()
"""The answer of a verb that has printed it already."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    return ended("forkservectl", lambda: _ask(_parser().parse_args(argv)))


def _ask(arguments: Arguments) -> int:
    path = Path(arguments.socket) if arguments.socket else chosen(arguments.name, arguments.config)
    telling = progress(path) if getattr(arguments, "waiting", False) and not arguments.json else nullcontext()
    try:
        with telling, ControlClient(path, timeout=arguments.timeout) as client:
            answer = arguments.call(client, arguments)
    except KeyboardInterrupt:
        tell("forkservectl: interrupted; what was asked for goes on\n")
        raise
    return _print(answer, arguments)


def _print(answer: Answer, arguments: Arguments) -> int:
    """Print an answer and return the exit code that it means."""
    if answer is PRINTED:
        return ExitCode.OK
    try:
        code = int(arguments.code(answer))
        text = json.dumps(answer, indent=2) if arguments.json else arguments.show(printable_answer(answer))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ControlError("what answers there is no forkserve of this version") from error
    say(f"{text}\n")
    return code


def _verb(name: str, *parameters: str) -> Callable[[ControlClient, Arguments], Answer]:
    def call(client: ControlClient, arguments: Arguments) -> Answer:
        return client.call(name, **{parameter: getattr(arguments, parameter) for parameter in parameters})

    return call


def _call_set(client: ControlClient, arguments: Arguments) -> Answer:
    options = dict(pair.split("=", 1) for pair in arguments.options)
    return client.call("set", watcher=arguments.watcher, options=options, waiting=arguments.waiting)


def _call_events(client: ControlClient, arguments: Arguments) -> Answer:
    """Print events as they come."""
    last = arguments.lines if arguments.lines is not None else 0 if arguments.follow else 1000
    for event in client.follow("events", watcher=arguments.watcher, follow=arguments.follow, last=last):
        if arguments.json:
            say(f"{json.dumps(event)}\n")
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
            say(f"{when} {event['kind']:<17} {printable(event['text'])}\n")
    return PRINTED


def _call_signal(client: ControlClient, arguments: Arguments) -> Answer:
    signal = int(arguments.signal) if arguments.signal.isdigit() else arguments.signal
    return client.call("signal", watcher=arguments.watcher, signal=signal, pid=arguments.pid, wid=arguments.wid)


def _show_done(answer: Answer) -> str:
    return str(answer["message"])


def _show_status(answer: Answer) -> str:
    colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return status_screen(answer, colour=colour)


def _code_of_status(answer: Answer) -> int:
    return ExitCode.FAILURE if has_failed(answer) else ExitCode.OK


def _show_stats(answer: Answer) -> str:
    header = ["PROCESS", "PID", "CPU", "MEMORY", "THREADS", "FDS", "CHILDREN", "UPTIME"]
    keys = ("threads", "fds", "children")
    rows = [
        [
            process["name"],
            str(process["pid"]),
            "-" if process.get("cpu") is None else f"{process['cpu']:.1f}%",
            "-" if process.get("memory") is None else size(process["memory"]),
            *("-" if process.get(key) is None else str(process[key]) for key in keys),
            exact_duration(process["uptime"]),
        ]
        for watcher in answer
        for process in watcher["processes"]
    ]
    return render(header, rows, right=set(range(1, 8)))


def _show_sockets(answer: Answer) -> str:
    rows = [[entry["name"], entry["address"], entry["type"], str(entry["fd"])] for entry in answer]
    return render(["SOCKET", "ADDRESS", "TYPE", "FD"], rows, right={3})


def _show_version(answer: Answer) -> str:
    name = f" {answer['name']}" if answer["name"] else ""
    who = f"forkserve {answer['version']}{name}, master pid {answer['pid']}, up {exact_duration(answer['uptime'])}"
    return f"{who}, runs {answer['source']}"


class _Parser(CommandLineParser):
    """Says what is wrong in one line, with the nearest verb."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument VERB: invalid choice"):
            word, verbs = message.split("'")[1], message.partition("choose from")[2]
            message = f"there is no verb {word!r}{nearest(word, re.findall('[a-z]+', verbs))}"
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="forkservectl",
        description="Control a running forkserve.",
        epilog="Exit codes: 0 done, 1 refused (status: something is fatal), 2 bad usage, 75 no answer in time.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration file of the forkserve to talk to")
    parser.add_argument("-n", "--name", metavar="NAME", help="the forkserve that was started with this --name")
    parser.add_argument("--socket", metavar="PATH", help="its control socket, when it is not in the default place")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="wait no longer than this for an answer")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--version", action="version", version=f"forkservectl {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_reading(verbs)
    _add_running(verbs)
    _add_changing(verbs)
    return parser


Verbs = Any
"""argparse's own, unnamed type of what `add_subparsers` returns."""


def _add(
    verbs: Verbs, name: str, help: str, call: Callable[[ControlClient, Arguments], Answer]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=help)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the answer as JSON")
    parser.set_defaults(call=call, show=_show_done, code=lambda _answer: ExitCode.OK)
    return parser


def _add_reading(verbs: Verbs) -> None:
    _add(verbs, "list", "Name the watchers.", _verb("list")).set_defaults(show="\n".join)
    status = _add(verbs, "status", "Show every process, or those of one watcher.", _verb("status", "watcher"))
    status.add_argument("watcher", nargs="?")
    status.set_defaults(show=_show_status, code=_code_of_status)
    stats = _add(verbs, "stats", "Show what every process uses.", _verb("stats", "watcher"))
    stats.add_argument("watcher", nargs="?")
    stats.set_defaults(show=_show_stats)
    _add(verbs, "listsockets", "Show the listening sockets.", _verb("listsockets")).set_defaults(show=_show_sockets)
    events = _add(verbs, "events", "Print what has happened, or with -f what happens, an event a line.", _call_events)
    events.add_argument("watcher", nargs="?", help="only events of this watcher")
    events.add_argument("-f", "--follow", action="store_true", help="go on with events as they happen")
    events.add_argument("-n", "--lines", type=int, metavar="N", help="the last N events kept (all, or none with -f)")
    _add(verbs, "version", "Say which forkserve answers.", _verb("version")).set_defaults(show=_show_version)


def _add_running(verbs: Verbs) -> None:
    for name, help in (
        ("start", "Start one watcher, or all."),
        ("stop", "Stop one watcher, or all; the sockets stay open."),
        ("restart", "Stop and start one watcher, or all."),
        ("reload", "Replace the processes of one watcher, or of all, one by one; the old go when the new are ready."),
    ):
        parser = _add(verbs, name, help, _verb(name, "watcher", "waiting"))
        parser.add_argument("watcher", nargs="?")
        _no_wait(parser)
    parser = _add(
        verbs, "reloadconfig", "Read the configuration again and change only what differs.", _verb("reloadconfig")
    )
    parser.set_defaults(waiting=True)
    _add(verbs, "reopenlogs", "Reopen every log file, after they have been moved.", _verb("reopenlogs"))
    _no_wait(_add(verbs, "quit", "Stop everything and end forkserve.", _verb("quit", "waiting")))


def _add_changing(verbs: Verbs) -> None:
    for name, help in (("incr", "Run more processes of a watcher."), ("decr", "Run fewer processes of a watcher.")):
        parser = _add(verbs, name, help, _verb(name, "watcher", "count", "waiting"))
        parser.add_argument("watcher")
        parser.add_argument("count", nargs="?", type=int, default=1)
        _no_wait(parser)
    setting = _add(
        verbs,
        "set",
        "Change numprocesses of a running watcher: set web numprocesses=4; any other option by reloadconfig.",
        _call_set,
    )
    setting.add_argument("watcher")
    setting.add_argument("options", nargs="+", metavar="NAME=VALUE", type=_pair)
    _no_wait(setting)
    signal = _add(verbs, "signal", "Send a signal to the processes of a watcher.", _call_signal)
    signal.add_argument("watcher")
    signal.add_argument("signal", help="a name (HUP, SIGHUP) or a number")
    signal.add_argument("--pid", type=int, help="only to this process")
    signal.add_argument("--wid", type=int, help="only to the process of this slot")


def _no_wait(parser: argparse.ArgumentParser) -> None:
    help = "do not wait until the work is done"
    parser.add_argument("--no-wait", dest="waiting", action="store_false", default=True, help=help)


def _pair(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
