"""Serves on an inherited socket by hand; the program needs nothing of forkserve:

forkserve --fd-socket web=:8000 -- python accept_loop.py '$(circus.sockets.web)'
"""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Accept and answer, one connection at a time, until a signal ends it."""
    sock = socket.fromfd(int(sys.argv[1]), socket.AF_INET, socket.SOCK_STREAM)
    answer = f"hello from process {os.getpid()}\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
    while True:
        conn, _addr = sock.accept()
        with conn:
            conn.recv(65536)
            conn.sendall((head + answer).encode())


if __name__ == "__main__":
    main()
