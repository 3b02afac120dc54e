"""What `forkservectl status` shows, and what it tells while a verb takes its time."""

from __future__ import annotations

from typing import Any

from forkserve.cli.progress import summary
from forkserve.cli.screens import has_failed, status_screen


def process(wid: int, state: str = "ready", generation: int = 1, **rest: Any) -> dict[str, Any]:
    return {"wid": wid, "pid": 4194000 + wid, "state": state, "uptime": 1e6, "generation": generation, **rest}


def slot(wid: int, state: str = "filled", reason: str = "", retry_in: float | None = None) -> dict[str, Any]:
    return {"wid": wid, "state": state, "reason": reason, "retry_in": retry_in}


def watcher(*processes: dict[str, Any], slots: tuple[dict[str, Any], ...] = (), **rest: Any) -> dict[str, Any]:
    basic = {"name": "web", "state": "active", "numprocesses": 2, "restarts": 0, "generation": 1}
    return {**basic, "processes": list(processes), "slots": list(slots), **rest}


def test_old_and_new_are_told_apart_by_generation() -> None:
    both = watcher(process(1, "draining", 1), process(1, "ready", 2), generation=2)
    first, second = status_screen([both], colour=False).split("\n")[1:]
    assert first.split()[:6] == ["web", "draining", "4194001", "1", "1", "old"]
    assert second.split()[:4] == ["ready", "4194001", "1", "2"]


def test_the_reason_stands_below_what_does_not_run() -> None:
    slots = (
        slot(1),
        slot(2, "fatal", "exited with code 3 after 0.2 s"),
        slot(3, "backoff", "was ended by SEGV", 4.0),
    )
    one = watcher(process(1), slots=slots, restarts=7)
    other = watcher(name="off", state="stopped")
    lines = status_screen([one, other], colour=False).split("\n")
    assert [line.split()[:2] for line in lines[1:]] == [
        ["web", "ready"], ["fatal", "-"], ["exited", "with"], ["backoff", "-"], ["was", "ended"], ["off", "stopped"],
    ]  # fmt: skip
    assert lines[5] == "    was ended by SEGV; next try in 4s"
    assert has_failed([one, other])
    assert not has_failed([other])


def test_it_fits_a_terminal_of_80_columns() -> None:
    busy = process(12, "spawning", 1, cpu=100.0, memory=1023 << 20)
    slots = (slot(1, "fatal", "no module named 'a' " * 20),)
    long = watcher(
        busy, slots=slots, name="a-watcher-with-a-name-that-nobody-can-remember", generation=2, restarts=12345
    )
    screen = status_screen([long], colour=False)
    assert max(map(len, screen.split("\n"))) <= 80
    assert "a-w" in screen
    assert screen.replace("\n   ", "").count("no module") == 20


def test_colour_marks_states_alone() -> None:
    one = watcher(process(1), slots=(slot(2, "fatal", "fatal indeed"),))
    screen = status_screen([one], colour=True)
    assert "\x1b[32mready\x1b[0m" in screen
    assert screen.count("\x1b[31mfatal\x1b[0m") == 1
    assert "\x1b" not in status_screen([one], colour=False)


def test_progress_is_told_as_long_as_something_is_under_way() -> None:
    assert summary(watcher(process(1), process(2))) == ""
    reload = watcher(process(1), process(2), process(1, "spawning", 2), generation=2)
    assert summary(reload) == "0 of 2 ready, 1 starting, 2 old still serving"
    with_zygote = watcher(process(0, "zygote", 1, zygote=True), *reload["processes"], generation=2)
    assert summary(with_zygote) == summary(reload)
    stop = watcher(process(1, "draining"), slots=(slot(2, "backoff", "x", 1.0),))
    assert summary(stop) == "0 of 2 ready, 1 stopping, 1 waiting for another try"
