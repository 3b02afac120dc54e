"""The scenarios, in the order in which a run takes them: the most telling first, since a run may be cut off."""

from __future__ import annotations

from bench.harness.model import BenchError, Settings
from bench.harness.scenarios.base import Scenario
from bench.harness.scenarios.broken import BrokenDeploys
from bench.harness.scenarios.cost import Idle, Memory, StartUp
from bench.harness.scenarios.crowds import Fairness, IdleConnections, SlowClients
from bench.harness.scenarios.faults import Deploy, FullQueue, Kill
from bench.harness.scenarios.historic import Historic
from bench.harness.scenarios.million import Million
from bench.harness.scenarios.pairs import AccessLog, Adapters
from bench.harness.scenarios.paths import BehindNginx, Overhead, WebSocketEcho
from bench.harness.scenarios.pauses import Pauses
from bench.harness.scenarios.speed import AsgiHello, Bodies, Connections, Frameworks, Limit, Waits, Workers, WsgiHello
from bench.harness.scenarios.storms import MasterKill, Reloads
from bench.harness.scenarios.streams import Streams
from bench.harness.scenarios.upkeep import Scrape, Upgrades
from bench.harness.scenarios.varied import Varied

__all__ = ["SCENARIOS", "chosen"]

_ALL: tuple[Scenario, ...] = (
    *(
        Limit(),
        WsgiHello(),
        AsgiHello(),
        Varied(),
        Deploy(),
        Memory(),
        Frameworks(),
        Kill(),
        FullQueue(),
        Reloads(),
        MasterKill(),
        BrokenDeploys(),
        Streams(),
        Upgrades(),
        Pauses(),
        Scrape(),
    ),
    *(
        SlowClients(),
        Fairness(),
        Overhead(),
        StartUp(),
        Idle(),
        Bodies(),
        Waits(),
        WebSocketEcho(),
        AccessLog(),
        Connections(),
    ),
    *(BehindNginx(), Workers(), IdleConnections(), Million(), Adapters(), Historic()),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}


def chosen(settings: Settings) -> list[Scenario]:
    """Return what this run measures; the machine's limit is always part of it.

    Raises BenchError for an unknown name.
    """
    unknown = [name for name in settings.scenarios if name not in SCENARIOS]
    if unknown:
        raise BenchError(f"no scenario called {unknown[0]!r}; --list shows them")
    if settings.scenarios:
        return [scenario for scenario in _ALL if scenario.name in (*settings.scenarios, "limit")]
    if settings.quick:
        return [scenario for scenario in _ALL if scenario.in_quick]
    return [scenario for scenario in _ALL if scenario.in_short or settings.full]
