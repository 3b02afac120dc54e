"""Fuzzes the readers of requests in Python, led by coverage.

Seeds are the corpus; an input that reaches new lines joins the pool; what must hold is said in
tests.support.http_invariants. With atheris installed (`--atheris`; libFuzzer's engine) that one drives, else the loop
below, which needs nothing. An input that breaks an invariant is printed as a Python literal, ready for the corpus.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from time import monotonic

from tests.fuzz.contained import Note
from tests.fuzz.coverage import LineCoverage
from tests.support.http_corpus import cases
from tests.support.http_invariants import check_invariants
from tests.support.http_mutation import mutate

__all__ = ["fuzz_parsers", "fuzz_with_atheris", "seeds"]


def seeds() -> list[bytes]:
    """The corpus without its giants."""
    return [case.raw for case in cases() if len(case.raw) < 4000]


def fuzz_parsers(seconds: float, seed: int, note: Note) -> int:
    """Fuzz with our own loop; 1 if an input broke something."""
    chance = random.Random(seed)
    pool, deadline, tried = seeds(), monotonic() + seconds, 0
    with LineCoverage("forkserve.serving.http") as coverage:
        for raw in pool:
            check_invariants(raw)
        print(f"parsers: {len(pool)} seeds reach {coverage.count} lines", flush=True)
        before = coverage.count
        while monotonic() < deadline:
            # The latest of the pool are those that reached new lines: prefer them.
            raw = chance.choice(pool[-64:] if chance.random() < 0.3 else pool)
            raw = mutate(raw, chance.choice(pool), chance)
            tried += 1
            note(raw)
            try:
                check_invariants(raw, tried)
            except Exception as error:  # noqa: BLE001  # any exception is the finding itself
                print(f"BROKEN by {raw!r}\n  {type(error).__name__}: {error}\n  seed {seed}", flush=True)
                return 1
            if coverage.count > before:
                before = coverage.count
                pool.append(raw)
    print(
        f"parsers: {tried} inputs, {coverage.count} lines, pool of {len(pool)}, seed {seed}: nothing broke", flush=True
    )
    return 0


def fuzz_with_atheris(seconds: float, seed: int) -> None:
    """Fuzz with atheris, which ends the process itself."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, no stubs

    def mutator(data: bytes, size: int, number: int) -> bytes:
        chance = random.Random(number)
        return mutate(data, chance.choice(found), chance)[:size]

    found = seeds()
    with tempfile.TemporaryDirectory() as folder:
        for at, raw in enumerate(found):
            Path(folder, str(at)).write_bytes(raw)
        atheris.instrument_all()
        options = [f"-max_total_time={int(seconds)}", f"-seed={seed or 1}", "-max_len=20000", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, folder], check_invariants, custom_mutator=mutator)
        atheris.Fuzz()
