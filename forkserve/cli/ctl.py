"""`forkservectl`: asks the running master, and prints its answer.

Exit codes: 0 done, 1 refused by the master or no master found, 1 of `status` when something is fatal, 2 bad usage, 75
no answer in time; `run` exits with the code of the run, or 128 plus the signal that ended it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forkserve.cli.analysis import analysis
from forkserve.cli.answers import SHOWN, done
from forkserve.cli.commandline import command_line
from forkserve.cli.completion import COMPLETE, SCRIPTS, complete_words
from forkserve.cli.ctlparser import ctl_parser, options_of, parameters_of
from forkserve.cli.ending import ended, say, tell
from forkserve.cli.following import KEPT_EVENTS, print_events, print_logs
from forkserve.cli.instances import chosen
from forkserve.cli.names import KnownNames
from forkserve.cli.progress import progress
from forkserve.cli.screens import has_failed
from forkserve.cli.shell import CommandShell
from forkserve.cli.top.command import run_top
from forkserve.cli.tree import process_tree, tree_text
from forkserve.control.client import ControlClient
from forkserve.control.matching import matching
from forkserve.control.printable import printable_answer
from forkserve.errors import ControlError, ExitCode, UsageError
from forkserve.unix.home import typed

__all__ = ["main"]

Arguments = argparse.Namespace
Answer = Any
"""Values of msgspec and JSON: dictionaries, lists, text, numbers, true, false, null."""
PRINTED: Answer = object()
"""The answer of a verb that has printed it already."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return ended("forkservectl", lambda: _obey(words))


def _obey(words: Sequence[str]) -> int:
    if words[:1] == [COMPLETE]:
        say(complete_words(words[1:]))
        return ExitCode.OK
    arguments = ctl_parser().parse_args(words)
    if arguments.verb is None and not (sys.stdin is not None and sys.stdin.isatty()):
        raise UsageError("give a verb (see forkservectl --help)")
    if arguments.verb is not None and arguments.verb.name == "completion":
        say(SCRIPTS[arguments.shell])
        return ExitCode.OK
    given = arguments.control_socket
    arguments.path = Path(given) if given else chosen(arguments.instance, arguments.config)
    if arguments.verb is None or arguments.verb.name == "shell":
        return _run_shell(arguments)
    return _ask(arguments)


def _run_shell(arguments: Arguments) -> int:
    """Read verbs, and send each to the master that was chosen at the beginning."""
    path: Path = arguments.path
    with ControlClient(path, timeout=arguments.timeout) as client:
        name = printable_answer(client.call("version"))["name"]
    given = ["--socket", str(path)] + ([] if arguments.timeout is None else ["--timeout", str(arguments.timeout)])
    prompt = f"forkservectl {name}> " if name else "forkservectl> "
    shell = CommandShell(
        command_line(ctl_parser()), KnownNames(lambda: path), lambda words: _obey([*given, *words]), prompt=prompt
    )
    return shell.loop()


def _ask(arguments: Arguments) -> int:
    path: Path = arguments.path
    waits = getattr(arguments, "waiting", False)
    telling = progress(path, arguments.verb.name) if waits and not arguments.json else nullcontext()
    try:
        with telling, ControlClient(path, timeout=arguments.timeout) as client:
            call = _CALLS.get(arguments.verb.name, _call)
            answer = call(client, arguments)
    except KeyboardInterrupt:
        if not arguments.verb.reads:
            going = f"the work goes on ({arguments.verb.name})"
            tell(f"forkservectl: interrupted; {going}: see `{_same_master(arguments)} status`\n")
        raise
    return _print(answer, arguments)


def _same_master(arguments: Arguments) -> str:
    """Return the words by which the same master is asked again."""
    chosen = {"-c": arguments.config, "-n": arguments.instance, "--socket": arguments.control_socket}
    words = [word for flag, value in chosen.items() if value is not None for word in (flag, str(value))]
    return shlex.join(["forkservectl", *words])


def _print(answer: Answer, arguments: Arguments) -> int:
    """Print an answer and return its exit code."""
    if answer is PRINTED:
        return ExitCode.OK
    name = arguments.verb.name
    try:
        code = ExitCode.FAILURE if name == "status" and has_failed(answer) else ExitCode.OK
        code = answer.get("exit_code", code) if name == "run" else code
        show = SHOWN.get(name, done)
        text = json.dumps(answer, indent=2) if arguments.json else show(printable_answer(answer))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ControlError("what answers there is not a forkserve of this version") from error
    say(f"{text}\n")
    return code


def _call(client: ControlClient, arguments: Arguments) -> Answer:
    return client.call(arguments.verb.name, **parameters_of(arguments))


def _call_with_options(client: ControlClient, arguments: Arguments) -> Answer:
    options = options_of(arguments.options or ())
    return client.call(arguments.verb.name, **{**parameters_of(arguments), "options": options})


def _call_add(client: ControlClient, arguments: Arguments) -> Answer:
    words = arguments.cmd
    cmd = words[0] if len(words) == 1 else shlex.join(words)
    options = options_of(arguments.options or ())
    return client.call("add", **{**parameters_of(arguments), "cmd": cmd, "options": options})


def _call_matching(client: ControlClient, arguments: Arguments) -> Answer:
    """Start, stop or restart the watchers that match a pattern; the master refuses an unknown name."""
    name, parameters = arguments.watcher, parameters_of(arguments)
    if name is not None and (arguments.match == "regex" or set(name) & set("*?[")):
        names = client.call("list")
        is_slot = name.endswith("]") and name.partition("[")[0].lower() in {each.lower() for each in names}
        meant = [] if is_slot else matching(names, name, arguments.match)
        if meant:
            parameters |= {"watcher": None, "watchers": meant}
    return client.call(arguments.verb.name, **parameters)


def _call_signal(client: ControlClient, arguments: Arguments) -> Answer:
    """Run `signal NAME SIGNAL`, or circusctl's `signal NAME PID SIGNAL`."""
    parameters = {**parameters_of(arguments), "pid": arguments.pid}
    if arguments.more is not None:
        if not arguments.signal.isdigit():
            raise UsageError(f"signal NAME PID SIGNAL: expected a pid, got {arguments.signal!r}")
        parameters |= {"pid": int(arguments.signal), "signal": arguments.more}
    return client.call("signal", **parameters)


def _call_events(client: ControlClient, arguments: Arguments) -> Answer:
    print_events(client, arguments)
    return PRINTED


def _call_logs(client: ControlClient, arguments: Arguments) -> Answer:
    print_logs(client, arguments)
    return PRINTED


def _call_top(client: ControlClient, arguments: Arguments) -> Answer:
    if arguments.json:
        return client.call("top", pss=True)
    run_top(arguments.path, sort=arguments.sort, interval=arguments.interval, once=arguments.once)
    return PRINTED


def _call_tree(client: ControlClient, arguments: Arguments) -> Answer:
    stats = client.call("stats", watcher=arguments.watcher)
    companions = [] if arguments.watcher else client.call("dstats")
    tree = process_tree(*printable_answer([client.call("version"), stats, companions]))
    if arguments.json:
        return asdict(tree)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    say(f"{tree_text(tree, unicode=encoding.lower().startswith('utf'))}\n")
    return PRINTED


def _call_analyze(client: ControlClient, arguments: Arguments) -> Answer:
    if arguments.watcher is not None:
        client.call("numprocesses", watcher=arguments.watcher)  # refuses a name that is none
    events = printable_answer(list(client.follow("events", follow=False, last=KEPT_EVENTS)))
    with ControlClient(arguments.path, timeout=arguments.timeout) as another:  # a stream ends with its connection
        began = time.time() - another.call("version")["uptime"]
    text = analysis(events, began_at=began, watcher=arguments.watcher, start=bool(arguments.start))
    if arguments.json:
        return text.splitlines()
    say(f"{text}\n")
    return PRINTED


def _call_maintenance(client: ControlClient, arguments: Arguments) -> Answer:
    """Name the page by a path that the master can open; raises UsageError if there is certainly none."""
    wanted = parameters_of(arguments)
    if wanted["file"] is not None:
        page = Path(os.path.abspath(wanted["file"]))
        if wanted["switch"] == "on" and (page.is_dir() or not page.exists()):
            raise UsageError(f"maintenance: {arguments.file}: no such file")
        wanted["file"] = str(page)
    return client.call("maintenance", **wanted)


def _call_upgrade(client: ControlClient, arguments: Arguments) -> Answer:
    """Name files by their absolute path: the master has another working directory."""
    parameters = parameters_of(arguments)
    for name in ("python", "exec"):
        if parameters[name] is not None:
            parameters[name] = typed(parameters[name], os.environ)
    return client.call("upgrade", **parameters)


_CALLS: Mapping[str, Callable[[ControlClient, Arguments], Answer]] = {
    "set": _call_with_options,
    "addsocket": _call_with_options,
    "setsocket": _call_with_options,
    "add": _call_add,
    "start": _call_matching,
    "stop": _call_matching,
    "restart": _call_matching,
    "signal": _call_signal,
    "events": _call_events,
    "logs": _call_logs,
    "top": _call_top,
    "tree": _call_tree,
    "analyze": _call_analyze,
    "maintenance": _call_maintenance,
    "upgrade": _call_upgrade,
}
"""The verbs whose parameters are not simply what was typed, or whose answer is not a single one."""


if __name__ == "__main__":
    sys.exit(main())
