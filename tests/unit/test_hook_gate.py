"""Hooks on a manual loop: what waits for which answer, and what a veto or a failure means."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from forkserve.config.hooks import parse_hook
from forkserve.supervision.hooks.call import HookAnswer, HookCall
from forkserve.supervision.hooks.gate import GatePhase
from forkserve.supervision.jobs.advance import Reload, Restart, Start, Stop
from forkserve.supervision.spawning.start import SpawnServices
from tests.support.supervision import World, options

ALL = dict.fromkeys(("before_start", "after_start", "before_spawn", "after_spawn"), "some.hook")
SIGNALS = dict.fromkeys(("before_stop", "before_signal", "after_signal", "after_stop"), "some.hook")


@dataclasses.dataclass
class HookWorld(World):
    """A world with a host that answers when the test says so."""

    def __post_init__(self) -> None:
        self.asked: list[HookCall] = []
        self._open: list[Callable[[HookAnswer], None]] = []
        super().__post_init__()

    def services(self) -> SpawnServices:
        services = super().services()
        services.call_hook = self._call
        return services

    def _call(self, call: HookCall, then: Callable[[HookAnswer], None]) -> None:
        self.asked.append(call)
        self._open.append(then)

    @property
    def pending(self) -> str:
        """The hook that is being asked, or an empty text."""
        assert len(self._open) <= 1, "two at once"
        return self.asked[-1].hook if self._open else ""

    def answer(self, said: bool = True, error: str = "") -> None:
        self._open.pop()(HookAnswer(said, error))
        self.settle()

    def answer_all(self) -> list[str]:
        """Consent until nothing is asked; returns what was."""
        found = []
        while self.pending:
            found.append(self.pending)
            self.answer()
        return found


def _world(hooks: Mapping[str, str], **more: Any) -> HookWorld:
    return HookWorld((options(hooks=hooks, **more),))


def test_nothing_starts_before_the_hooks_have_consented_each_in_its_turn() -> None:
    world = _world(ALL)
    start = world.submit(Start())

    assert (world.pending, world.processes()) == ("before_start", [])
    world.answer()
    assert (world.pending, world.processes()) == ("before_spawn", [])
    world.answer()
    assert world.pending == ""
    world.runs(world.child())
    assert world.pending == "after_spawn"
    assert world.asked[-1].details == {"pid": world.child().pid}
    world.answer()
    world.pass_time(1.0)
    assert world.pending == "after_start"
    assert not start.done
    world.answer()
    assert start.result == "web: 1 process running"
    assert world.watcher().gate.phase is GatePhase.UP
    assert not world.bugs()


@pytest.mark.parametrize("hook", ["before_start", "before_spawn", "after_spawn", "after_start"])
@pytest.mark.parametrize("answer", [{"said": False}, {"said": True, "error": "ValueError: no"}])
def test_a_veto_stops_the_watcher_and_says_which_hook_it_was(hook: str, answer: dict[str, Any]) -> None:
    world = _world({hook: "some.hook"})
    start = world.submit(Start())
    if hook != "before_start":
        world.answer()
    if hook.startswith("after"):
        world.runs(world.child())
    if hook == "after_start":
        world.pass_time(1.0)
    assert world.pending == hook

    world.answer(**answer)

    assert str(start.error) == f"web: hooks.{hook} said no"
    assert any(f"hooks.{hook} said no" in each for each in world.texts())
    assert ("hooks." + hook + " failed: ValueError: no" in "\n".join(world.texts())) == ("error" in answer)
    world.reap()
    world.answer_all()
    assert world.watcher().is_gone
    assert not world.watcher().up
    assert world.submit(Start()).error is None
    assert world.pending == "before_start"
    assert not world.bugs()


def test_a_failure_that_is_to_be_ignored_consents() -> None:
    world = _world({"before_start": "some.hook, true"})
    world.submit(Start())
    world.answer(said=False, error="its process has ended")
    assert len(world.processes()) == 1


def test_a_stop_waits_for_its_hooks_and_the_grace_begins_with_the_signal() -> None:
    world = _world(SIGNALS)
    world.submit(Start())
    world.answer()
    world.all_ready()
    child = world.child()
    child.obeys = False

    stop = world.submit(Stop())
    assert world.pending == "before_stop"
    world.pass_time(30.0)
    assert child.ended is None
    world.answer()
    assert (world.pending, world.asked[-1].details) == ("before_signal", {"pid": child.pid, "signum": 15})
    assert "stop requested" not in "\n".join(world.texts())
    world.answer()
    assert world.answer_all() == ["after_signal"]
    world.pass_time(9.9)
    assert child.ended is None
    world.pass_time(0.2)
    assert child.ended is not None
    world.reap()
    assert not stop.done
    assert world.answer_all() == ["after_stop"]
    assert stop.result == "web: stopped"
    assert not world.bugs()


def test_a_signal_that_a_hook_forbids_is_not_sent_but_the_kill_after_the_grace_is() -> None:
    world = _world({"before_signal": "some.hook"})
    world.submit(Start())
    world.answer()
    world.all_ready()
    child = world.child()

    assert world.watcher().signal(signal.SIGHUP) == 1
    world.answer(said=False)
    assert child.ended is None
    world.submit(Stop())
    world.answer(said=False)
    assert child.ended is None
    assert "SIGTERM is not sent" in "\n".join(world.texts())
    world.pass_time(10.1)
    assert child.ended is not None
    assert child.ended.signum == signal.SIGKILL


def test_a_restart_goes_through_all_hooks_in_order() -> None:
    world = _world({**ALL, **SIGNALS})
    world.submit(Start())
    _bring_up(world)
    world.asked.clear()

    restart = world.submit(Restart())
    world.answer_all()
    world.reap()
    _bring_up(world)

    assert restart.result == "web: 1 process running"
    assert [each.hook for each in world.asked] == [
        "before_stop", "before_signal", "after_signal", "after_stop",
        "before_start", "before_spawn", "after_spawn", "after_start",
    ]  # fmt: skip
    assert not world.bugs()


def test_a_veto_during_a_reload_of_several_leaves_those_that_serve() -> None:
    world = _world({"before_spawn": "some.hook"}, numprocesses=2)
    world.submit(Start())
    _bring_up(world)
    before = world.pids()

    reload = world.submit(Reload())
    assert world.pending == "before_spawn"
    world.answer(said=False)

    assert reload.error is not None
    assert "hooks.before_spawn said no" in str(reload.error)
    assert world.pids() == before
    assert world.watcher().up


def test_an_answer_that_comes_after_a_stop_starts_nothing() -> None:
    world = _world({"before_start": "some.hook", "before_spawn": "some.hook"})
    world.submit(Start())
    stop = world.submit(Stop())
    assert stop.result == "web: stopped"
    start = world.submit(Start())
    world.answer(said=False)  # the one of before the stop
    assert start.error is None
    assert world.pending == "before_start"
    world.answer()
    world.answer()
    assert len(world.processes()) == 1
    assert not world.bugs()


@pytest.mark.parametrize("at", ["before_start", "before_spawn", "after_start", "before_stop", "before_signal"])
def test_what_was_asked_before_an_upgrade_is_asked_again(at: str) -> None:
    world = _world({**ALL, **SIGNALS})
    world.submit(Start())
    if at in ("before_stop", "before_signal"):
        _bring_up(world)
        world.submit(Stop())
    _until(world, at)

    text = world.written()
    world._open.clear()
    world.read(text)
    world.settle()

    if at == "before_stop":  # what it was asked for is over: signals are next
        assert world.pending == "before_signal"
    else:
        assert world.pending == at
    _until(world, "after_stop" if at in ("before_stop", "before_signal") else "")
    assert not world.bugs()


def _bring_up(world: HookWorld) -> None:
    world.answer_all()
    for wid in sorted(world.watcher().slots):
        world.runs(world.child(wid))
    world.answer_all()
    world.pass_time(1.0)
    world.answer_all()


def _until(world: HookWorld, hook: str) -> None:
    for _ in range(20):
        if world.pending == hook and hook:
            return
        if world.pending:
            world.answer()
        elif world.processes() and world.child().outcome is False:
            world.runs(world.child())
        elif hook == "after_stop":
            world.reap()
        else:
            world.pass_time(1.0)
    assert not hook, f"never asked {hook}: {[each.hook for each in world.asked]}"


@pytest.mark.parametrize(
    ("text", "target", "ignored"),
    [
        ("a.b", "a.b", False),
        ("a.b:c.d", "a.b:c.d", False),
        (" a.b , True ", "a.b", True),
        ("a.b,no", "a.b", False),
    ],
)
def test_a_hook_is_a_dotted_name_and_a_flag(text: str, target: str, ignored: bool) -> None:
    hook = parse_hook(text)
    assert (hook.target, hook.ignore_failure) == (target, ignored)


@pytest.mark.parametrize("text", ["", "check", "a..b", "a.b c", "a.b,perhaps", "a/b.py", "a.b(1)"])
def test_what_is_no_hook_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_hook(text)
