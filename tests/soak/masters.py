"""Masters that are replaced and killed, and workers that become zygotes, again and again."""

from __future__ import annotations

from pathlib import Path

from tests.soak.row import Result, Scale
from tests.system.test_refork import ASGI, WARMED, reforked_again_and_again
from tests.system.test_upgrade_storm import killed_again_and_again, upgraded_under_load

__all__ = ["kills", "reforks", "upgrades"]


def upgrades(folder: Path, scale: Scale, variant: str) -> Result:
    """Upgrade under load, in reloads, with a stopped child; raises AssertionError."""
    answered = upgraded_under_load(folder, scale.upgrades, scale.watchers)
    return Result(
        answered, 0, f"{scale.upgrades} upgrades of a master with {scale.watchers} watchers, one to a broken one"
    )


def kills(folder: Path, scale: Scale, variant: str) -> Result:
    """Kill masters at any moment; raises AssertionError."""
    killed_again_and_again(folder, scale.kills)
    return Result(figures=f"{scale.kills} masters killed, each next one has bound")


def reforks(folder: Path, scale: Scale, variant: str) -> Result:
    """Refork under load, with TLS or without; raises AssertionError."""
    backend, _, tls = variant.partition(" ")
    (folder / "site_p.py").write_text(WARMED)
    (folder / "site_a.py").write_text(ASGI)
    answered = reforked_again_and_again(folder, scale.reforks, backend, tls=bool(tls))
    return Result(answered, 0, f"{scale.reforks} reforks; descriptors, memory and processes are as before")
