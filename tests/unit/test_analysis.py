"""What `analyze` and `tree` make of what the master says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkserve.cli.analysis import analysis, deploy_chain, start_chain
from forkserve.cli.tree import process_tree, tree_text

T0 = 1000.0


def events(*given: tuple[float, str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    facts = {"wid": 1, "pid": 1, "said": True, "text": ""}
    return [
        {"id": number, "time": T0 + at, "kind": kind, **facts, **more}
        for number, (at, kind, more) in enumerate(given, 1)
    ]


def process(wid: int, pid: int, watcher: str = "web", **more: Any) -> dict[str, Any]:
    return {"watcher": watcher, "wid": wid, "pid": pid, **more}


START = events(
    (0.2, "watcher.awaits", {"watcher": "web", "awaited": ["redis"]}),
    (0.3, "process.started", process(1, 10, "redis")),
    (0.3, "process.started", process(1, 11, "db")),
    (0.8, "process.ready", process(1, 11, "db")),
    (1.0, "process.ready", process(1, 10, "redis", said=False)),
    (1.0, "watcher.started", {"watcher": "redis"}),
    (1.1, "process.started", process(1, 20)),
    (1.1, "process.started", process(2, 21)),
    (2.0, "process.ready", process(1, 20)),
    (3.1, "process.ready", process(2, 21)),
    (3.1, "watcher.started", {"watcher": "web"}),
    (60.0, "process.started", process(3, 22)),
    (90.0, "process.ready", process(3, 22)),
    (95.0, "process.started", process(2, 23)),
    (99.0, "process.ready", process(2, 23)),
)


def test_the_start_is_a_chain_back_from_what_was_ready_last() -> None:
    links = start_chain(START, T0)

    assert [each.what for each in links] == [
        "until redis is started",
        "redis starts",
        "until web is started",
        "web starts",
    ]
    assert [round(each.end - each.begin, 3) for each in links] == [0.3, 0.7, 0.1, 2.0]
    assert links[2].why == "web comes after redis"
    assert links[3].why == "web[2] pid 21 until it was ready"
    assert [each.what for each in start_chain(START, T0, "db")] == ["until db is started", "db starts"]


def test_the_start_is_told_with_what_could_be_done() -> None:
    told = analysis(START, began_at=T0)

    assert " took 3.1 s\n" in told
    assert "preload = True" in told
    assert "ready_after" in analysis(START[:6], began_at=T0, watcher="redis").splitlines()[4]
    assert analysis(START[:3], began_at=T0) == "nothing is ready yet"
    assert analysis([], began_at=T0).startswith("the events of the start are no longer kept")
    assert analysis(START[1:], began_at=T0).startswith("the events of the start are no longer kept")


DEPLOY = [
    *START,
    *(
        {**each, "id": each["id"] + 100}
        for each in events(
            (200.0, "reload.begun", {"watcher": "web"}),
            (200.0, "process.started", process(1, 30)),
            (200.5, "process.started", process(1, 99, "db")),
            (202.0, "process.ready", process(1, 30)),
            (202.0, "process.stopping", process(1, 20)),
            (205.0, "process.exited", process(1, 20, text="web[1] pid 20 exited")),
            (205.0, "process.started", process(2, 31)),
            (207.0, "process.ready", process(2, 31)),
            (208.0, "reload.done", {"watcher": "web", "text": "web: 2 processes replaced (generation 2)"}),
            (300.0, "process.started", process(2, 32)),
        )
    ),
]


def test_a_deploy_is_a_chain_of_starts_and_of_waits_that_make_up_the_whole() -> None:
    links = deploy_chain(DEPLOY, DEPLOY[len(START)])

    assert [(each.what, round(each.end - each.begin, 3)) for each in links] == [
        ("web[1] starts", 2.0),
        ("until web[2] is started", 3.0),
        ("web[2] starts", 2.0),
        ("the rest", 1.0),
    ]
    assert links[1].why == "web[1] pid 20 exited"
    assert sum(each.end - each.begin for each in links) == 8.0


def test_a_deploy_is_told_before_the_start_unless_that_is_asked_for() -> None:
    assert "web: the deploy of " in analysis(DEPLOY, began_at=T0)
    assert " took 8.0 s: 2 processes replaced (generation 2)\n" in analysis(DEPLOY, began_at=T0)
    assert analysis(DEPLOY, began_at=T0, start=True).startswith("the start at ")
    assert analysis(DEPLOY, began_at=T0, watcher="db").startswith("the start of db at ")


def test_a_deploy_that_goes_on_is_told_so_far() -> None:
    told = analysis(DEPLOY[: len(START) + 4], began_at=T0)

    assert "goes on since 2.0 s" in told
    assert "web[1] starts" in told
    assert analysis(DEPLOY[: len(START) + 1], began_at=T0) == "web: a deploy has just begun"


def test_processes_that_were_replaced_side_by_side_count_once() -> None:
    side = events(
        (0.0, "reload.begun", {"watcher": "web"}),
        (0.0, "process.started", process(1, 30)),
        (0.0, "process.started", process(2, 31)),
        (2.0, "process.ready", process(1, 30)),
        (3.0, "process.ready", process(2, 31)),
        (3.0, "reload.done", {"watcher": "web", "text": "web: done"}),
    )

    assert [(each.what, each.end - each.begin) for each in deploy_chain(side, side[0])] == [
        ("web[1] starts", 2.0),
        ("web[2] starts", 1.0),
    ]


def test_a_tree_has_master_watchers_processes_and_what_descends_from_them() -> None:
    version = {"name": "shop", "pid": 9, "uptime": 61.0}
    grandchild = {"program": "convert", "pid": 33, "age": 2.0, "pss": 2048}
    child = {"program": "sh", "pid": 32, "age": 3.0, "pss": 1024, "children": [grandchild]}
    one = {"name": "web[1]", "pid": 31, "state": "ready", "uptime": 5.0, "generation": 1, "memory": 4096}
    watcher = {
        "name": "web",
        "state": "active",
        "numprocesses": 2,
        "generation": 2,
        "processes": [{**one, "usage": {"children": [child]}}],
        "slots": [{"wid": 1, "state": "filled"}, {"wid": 2, "state": "fatal", "reason": "exited with code 3"}],
    }
    companions = [{"name": "master", "pid": 9, "pss": 1 << 20}, {"name": "guard", "pid": 10}]
    timer = {"running": [], "queued": False, "next_in": 60.0, "schedule": "@hourly", "last": None}
    nightly = {**watcher, "name": "nightly", "processes": [], "slots": [], "timer": timer}
    tree = process_tree(version, [watcher, nightly], companions)

    assert tree_text(tree, unicode=True).splitlines() == [
        "forkserve shop 9, up 1m 01s, PSS 1.0 MiB",
        "├─ web: active, 1 of 2",
        "│  ├─ web[1] 31 ready, of generation 1, up 5s, RSS 4.0 KiB",
        "│  │  └─ sh 32, up 3s, PSS 1.0 KiB",
        "│  │     └─ convert 33, up 2s, PSS 2.0 KiB",
        "│  └─ web[2] fatal: exited with code 3",
        "├─ nightly: next run in 1m 00s (@hourly)",
        "└─ (guard) 10",
    ]
    assert tree_text(tree, unicode=False).splitlines()[-1] == "`- (guard) 10"
