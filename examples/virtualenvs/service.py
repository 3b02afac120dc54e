"""Prints which Python environment it runs in, and waits for SIGTERM."""

from __future__ import annotations

import signal
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print(f"{sys.argv[1]} runs in {sys.prefix}", flush=True)
signal.sigwait({signal.SIGTERM})
