"""Builds everything from its options and joins it: the only place that knows all parts of the master.

`start` begins with nothing, `takeover` with what another master has left in this very process, and `statefile` is what
it left. Both end in `assembly`.
"""

from forkserve.bootstrap.adopting import end_orphans
from forkserve.bootstrap.start import run

__all__ = ["end_orphans", "run"]
