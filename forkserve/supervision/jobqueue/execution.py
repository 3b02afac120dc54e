"""Carries out what a job wants done: each effect is one call to the watcher or to one of its parts.

Rules: nothing is decided here; an effect that the watcher cannot carry out raises, and its job fails.
"""

from __future__ import annotations

import signal
from typing import assert_never

from forkserve.supervision.events import SignalSent
from forkserve.supervision.generations.canary import limits_of
from forkserve.supervision.jobs import effects
from forkserve.supervision.watcher import Watcher

__all__ = ["execute_effect"]


def execute_effect(effect: effects.JobEffect, watcher: Watcher) -> None:
    """Carry out one effect of a job."""
    if isinstance(effect, effects.SlotEffect):
        _execute_on_slot(effect, watcher)
    elif isinstance(effect, effects.GenerationEffect):
        _execute_on_generations(effect, watcher)
    else:
        _execute_on_watcher(effect, watcher)


def _execute_on_watcher(effect: effects.WatcherEffect, watcher: Watcher) -> None:
    match effect:
        case effects.Up():
            watcher.start()
        case effects.TakeDown(finish, closing):
            watcher.stop(finish=finish, closing=closing)
        case effects.Delay(seconds):
            watcher.delay(seconds)
        case effects.Revive():
            watcher.revive()
        case effects.SetTarget(target):
            watcher.resize(target)
        case effects.EndProcesses(pids, signum, timeout):
            watcher.population.end(pids, signum, timeout)
        case effects.BeginRun():
            watcher.timer.start()
        case effects.SendHup():
            count = watcher.signal(signal.SIGHUP)
            watcher.emit(SignalSent(watcher=watcher.name, signal="SIGHUP", processes=count))
        case effects.Tell(event):
            watcher.emit(event)
        case _:
            assert_never(effect)


def _execute_on_generations(effect: effects.GenerationEffect, watcher: Watcher) -> None:
    match effect:
        case effects.Rehearse(offer):
            watcher.rehearse(offer)
        case effects.Withdraw(offer):
            watcher.templates.withdraw(offer)
        case effects.OpenGeneration(offer, follow, back_to):
            watcher.open_generation(offer, follow=follow, back_to=back_to)
        case effects.Approve(generation, instead_of):
            watcher.templates.approve(generation or watcher.generation, instead_of)
        case effects.PutBack(generation):
            watcher.put_back(generation)
        case effects.Confine(slots, before):
            watcher.templates.confine(slots, before)
        case effects.CompareGenerations(before, seconds):
            watcher.canary.begin(before, watcher.generation, seconds, limits_of(watcher.options))
        case effects.Unconfine():
            watcher.canary.end()
            watcher.templates.confine((), 0)
        case _:
            assert_never(effect)


def _execute_on_slot(effect: effects.SlotEffect, watcher: Watcher) -> None:
    match effect:
        case effects.Replace(wid):
            watcher.filler.replace(watcher.slots[wid])
        case effects.StopFirst(wid):
            watcher.population.stop_first(watcher.slots[wid])
        case effects.VacateSlot(wid):
            watcher.filler.vacate(wid)
        case effects.FillSlot(wid):
            watcher.filler.admit(wid)
        case _:
            assert_never(effect)
