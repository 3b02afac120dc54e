"""Servers that misbehave on purpose, to prove that the harness sees it. Arguments: mode, host, port."""

from __future__ import annotations

import asyncio
import sys

BODY = b"Hello, World!"


def _answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Faulty(asyncio.Protocol):
    """Answers each request head; every fiftieth request of the process gets the fault."""

    served = 0

    def __init__(self, mode: str) -> None:
        """Take the mode: honest, slow, lossy, mute, wrong or erring."""
        self.mode = mode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer one request; the harness never pipelines."""
        Faulty.served += 1
        if self.mode == "slow":
            asyncio.get_running_loop().call_later(0.02, self.transport.write, _answer(b"200 OK", BODY))
        elif self.mode == "honest" or Faulty.served % 50:
            self.transport.write(_answer(b"200 OK", BODY))
        else:
            self._fail()

    def _fail(self) -> None:
        if self.mode == "lossy":
            self.transport.abort()
        elif self.mode == "wrong":
            self.transport.write(_answer(b"200 OK", BODY[::-1]))
        elif self.mode == "erring":
            self.transport.write(_answer(b"500 Internal Server Error", b"sorry"))
        # "mute": nothing, for ever


async def main(mode: str, host: str, port: int) -> None:
    """Serve until a signal."""
    server = await asyncio.get_running_loop().create_server(lambda: Faulty(mode), host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
