"""The results on disk: one JSON line per measurement as it is made, so that a run that is cut off keeps what it has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.model import BenchError, Measurement

__all__ = ["Results", "Store", "load"]

FORMAT = 1


@dataclass(slots=True)
class Results:
    """A whole run: what it was made on, how, and every measurement. `complete` is False for a run that was cut off."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    complete: bool = False
    started: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "started": self.started,
            "complete": self.complete,
            "machine": self.machine,
            "settings": self.settings,
            "measurements": [measurement.as_json() for measurement in self.measurements],
        }


class Store:
    """Where a run writes to. `results.jsonl` grows line by line; `results.json` is written whole at the end.

    Measurements that the results have already (of a run that is taken up again) are written first.
    """

    def __init__(self, folder: Path, results: Results) -> None:
        """Make the folder and write the first line, all but the measurements; raises BenchError when it cannot."""
        self.folder = folder
        self.results = results
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = (folder / "results.jsonl.new").open("w")
            self._write(
                {"format": FORMAT, "started": results.started, "machine": results.machine, "settings": results.settings}
            )
            for measurement in results.measurements:
                self._write(measurement.as_json())
            # Whole or not at all: a kill must not cost what an earlier run has measured.
            (folder / "results.jsonl.new").replace(folder / "results.jsonl")
            (folder / "results.json").unlink(missing_ok=True)
        except OSError as error:
            raise BenchError(f"cannot write results to {folder}: {error.strerror}") from error

    def _write(self, value: dict[str, Any]) -> None:
        self._lines.write(json.dumps(value) + "\n")
        self._lines.flush()

    def add(self, measurement: Measurement) -> None:
        """Keep a measurement, on disk before anything else happens."""
        self.results.measurements.append(measurement)
        self._write(measurement.as_json())

    def close(self, *, complete: bool) -> None:
        """Write the whole file."""
        self.results.complete = complete
        self._lines.close()
        (self.folder / "results.json").write_text(json.dumps(self.results.as_json(), indent=1) + "\n")


def load(path: Path) -> Results:
    """Read results.json or, of a run that was killed, results.jsonl; raises BenchError."""
    try:
        if path.is_dir():
            path = path / "results.json" if (path / "results.json").exists() else path / "results.jsonl"
        if path.suffix == ".jsonl":
            # What follows the last line end was being written when the run was killed.
            head, *lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
            data = {**head, "complete": False, "measurements": lines}
        else:
            data = json.loads(path.read_text())
        measurements = [Measurement.from_json(item) for item in data["measurements"]]
        return Results(data["machine"], data["settings"], measurements, data["complete"], data["started"])
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is not a results file of this harness: {error}") from error
