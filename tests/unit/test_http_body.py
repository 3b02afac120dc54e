"""Bodies in chunks: however they are cut, they come to the same, and tiny chunks cost no more than others."""

from __future__ import annotations

import random
import time

import pytest

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.body import ChunkedBody
from forkserve.serving.http.refusal import Refusal

SIZES = [1, 2, 15, 16, 17, 254, 255, 256, 257, 4096]
FORMS = [b"%x", b"%X", b"0%x", b"00%x;a=b"]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1 << 20])
def test_chunks_of_any_size_are_the_same_body_in_any_pieces(step: int) -> None:
    draw = random.Random(step)
    blocks = [draw.randbytes(draw.choice(SIZES)) for _ in range(200)]
    sent = b"".join(draw.choice(FORMS) % len(block) + b"\r\n" + block + b"\r\n" for block in blocks)
    sent += b"0\r\nx-a: b\r\n\r\nrest"
    body, received = ChunkedBody(HttpLimits()), b""
    for at in range(0, len(sent), step):
        if not body.done:
            received += body.feed(sent[at : at + step])
    assert received == b"".join(blocks)
    assert body.trailers == ((b"x-a", b"b"),)
    assert b"rest".startswith(body.rest)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"1\r\na\r\n1\r\nab\r\n", 400),
        (b"1\r\na\r\n1\r\n\r\n\r\n", 400),
        (b"1\r\na\r\n\r\n", 400),
        (b"1\r\na\r\n+1\r\na\r\n", 400),
        (b"1\r\na\r\n 1\r\na\r\n", 400),
        (b"1\r\na\r\n1\na\r\n", 400),
        (b"5\r\naaaaa\r\n5\r\naaaaa\r\n1\r\na\r\n", 413),
    ],
)
def test_what_is_wrong_behind_a_small_chunk_is_refused(sent: bytes, status: int) -> None:
    for step in (1, len(sent)):
        body = ChunkedBody(HttpLimits(max_body=10))
        with pytest.raises(Refusal) as refused:
            for at in range(0, len(sent), step):
                body.feed(sent[at : at + step])
        assert refused.value.status == status


def test_tiny_chunks_hold_the_loop_for_less_than_half_as_long_as_those_that_are_judged_one_by_one() -> None:
    def seconds(sent: bytes) -> float:
        least = float("inf")
        for _ in range(7):
            body, begun = ChunkedBody(HttpLimits()), time.process_time()
            assert len(body.feed(sent)) == 3000
            least = min(least, time.process_time() - begun)
        return least

    assert seconds(b"1\r\na\r\n" * 3000) < seconds(b"01\r\na\r\n" * 3000) / 2
