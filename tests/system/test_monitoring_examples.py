"""The dashboard and the alerts in examples/ name metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from forkserve.supervision.metrics.exposition import FamilyKind
from forkserve.supervision.metrics.report import FAMILIES

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
SUFFIXES = {
    FamilyKind.COUNTER: ("_total",),
    FamilyKind.GAUGE: ("",),
    FamilyKind.HISTOGRAM: ("_bucket", "_count", "_sum"),
}
SAMPLES = {name + suffix for name, (kind, _) in FAMILIES.items() for suffix in SUFFIXES[kind]}
NAMES = re.compile(r"\b(?:forkserve|http_server)_\w+")
LABELS = {"watcher", "socket", "state", "reason", "result", "direction", "version", "python", "name", "instance", "job"}
LABELS |= {"http_request_method", "http_response_status_code", "le"}


def expressions() -> dict[str, list[str]]:
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    text = (FOLDER / "alerts.yaml").read_text()
    alerts = re.findall(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", text)
    return {"grafana.json": panels + variables, "alerts.yaml": ["".join(each) for each in alerts]}


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yaml"])
def test_every_metric_that_is_named_exists(file: str) -> None:
    found = expressions()[file]

    assert len(found) >= 10
    for expression in found:
        names = NAMES.findall(expression)
        assert names, expression
        assert set(names) <= SAMPLES, f"{set(names) - SAMPLES} in {expression}"
        labels = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", expression)
        groups = re.findall(r"(?:by|on)\s*\(([^)]*)\)", expression)
        by = [label.strip() for group in groups for label in group.split(",")]
        assert {*labels, *by} <= LABELS, expression


def test_the_dashboard_shows_everything_that_is_told() -> None:
    text = (FOLDER / "grafana.json").read_text()
    hidden = {"forkserve_readings_ignored", "forkserve_start_time_seconds"}

    assert {name for name in FAMILIES if name not in text} == hidden


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_alerts() -> None:
    done = subprocess.run(["promtool", "check", "rules", FOLDER / "alerts.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
