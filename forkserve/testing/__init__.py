"""The conformance suites of forkserve, for any backend; run them over your own:

    from forkserve.testing import check_backend

    def test_it_conforms() -> None:
        for report in check_backend("mine"):
            assert not report.failures, str(report)

`python -m forkserve.testing mine` runs them from a shell; without names it checks every backend that can serve here,
and `--markdown FILE` writes the table of docs/conformance.md.
"""

from forkserve.testing.outcome import Fault, Outcome, SuiteReport
from forkserve.testing.running import SUITES, check_backend

__all__ = ["SUITES", "Fault", "Outcome", "SuiteReport", "check_backend"]
