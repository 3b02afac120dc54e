"""Run wrk and read what it found.

wrk sends, counts and takes times; correctness is checked by clients.py and by the count of bytes.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.harness.model import BenchError
from bench.harness.probe import NUMBER, Request
from bench.harness.target import HOST, program

__all__ = ["Load", "Result", "command", "parse", "run"]

SCRIPT = Path(__file__).parent.parent / "lua" / "load.lua"
# Each thread of each start of wrk counts in a block of its own (load.lua); block 0 is the clients'.
_BLOCKS = itertools.count(1)
_LINE = re.compile(r"^BENCH (.+)$", re.MULTILINE)
_KINDS = {
    "connect": "connect",
    "read": "read",
    "write": "write",
    "status": "wrong status",
    "timeout": "no answer in time",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk is to do: so many connections for so many whole seconds (wrk knows no fractions)."""

    port: int
    request: Request
    connections: int = 64
    seconds: int = 2
    threads: int = 1
    fresh: bool = False
    patience: int = 5


@dataclass(frozen=True, slots=True)
class Result:
    """Times in seconds.

    `client_cpu` is the share of one core that each thread of wrk used: near 1 the client was the limit.
    """

    requests: int
    seconds: float
    received: int
    p50: float
    p90: float
    p99: float
    worst: float
    errors: dict[str, int]
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def size(self) -> float:
        """Bytes received per answer, head included."""
        return self.received / self.requests if self.requests else 0.0


def parse(output: str) -> Result:
    """Read the line that load.lua prints; raises BenchError when wrk did not get that far."""
    found = _LINE.search(output)
    if not found:
        raise BenchError(f"wrk printed no result: {output.strip()[-200:] or 'nothing'}")
    numbers = {key: int(value) for key, _, value in (pair.partition("=") for pair in found[1].split())}
    errors = {text: numbers[key] for key, text in _KINDS.items() if numbers[key]}
    micro = {key: numbers[key] / 1e6 for key in ("p50", "p90", "p99", "max", "duration_us")}
    return Result(
        requests=numbers["requests"],
        seconds=micro["duration_us"],
        received=numbers["bytes"],
        p50=micro["p50"],
        p90=micro["p90"],
        p99=micro["p99"],
        worst=micro["max"],
        errors=errors,
    )


def command(load: Load, prefix: list[str], folder: Path) -> list[str]:
    """Write the files that load.lua reads and return the command."""
    headers = [f"{name}: {value}" for name, value in load.request.headers]
    if load.fresh:
        headers.append("Connection: close")
    (folder / "headers").write_text("".join(f"{line}\n" for line in headers))
    (folder / "body").write_bytes(load.request.body)
    sizes = [f"-t{load.threads}", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", f"{load.patience}s"]
    url = f"http://{HOST}:{load.port}{load.request.path}"
    body = str(folder / "body") if load.request.body else "-"
    varying: list[str] = []
    if load.request.varies:
        (folder / "head").write_bytes(load.request.head(close=load.fresh).encode())
        blocks = [next(_BLOCKS) for _ in range(load.threads)]
        varying = [str(folder / "head"), NUMBER, str(blocks[0])]
    return [
        *prefix,
        program("wrk"),
        *sizes,
        "-s",
        str(SCRIPT),
        url,
        "--",
        load.request.method,
        str(folder / "headers"),
        body,
        *varying,
    ]


def _output(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Read to the end; raises BenchError past the deadline."""
    assert process.stdout
    data = b""
    while True:
        if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise BenchError("wrk did not end in time")
        block = os.read(process.stdout.fileno(), 1 << 16)
        if not block:
            return data.decode(errors="replace")
        data += block


def run(load: Load, prefix: list[str]) -> Result:
    """Send the load and return what wrk found; raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="bench-wrk-") as folder:
        argv = command(load, prefix, Path(folder))
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = _output(process, time.monotonic() + load.seconds + load.patience + 10)
        except BaseException:
            process.kill()
            raise
        finally:
            if process.stdout:
                process.stdout.close()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    result = parse(output)
    share = (used.ru_utime + used.ru_stime) / (result.seconds * load.threads) if result.seconds else 0.0
    fields = {name: getattr(result, name) for name in Result.__slots__}
    return Result(**{**fields, "client_cpu": round(share, 3)})
