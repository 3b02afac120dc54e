"""The companion that measures processes ends with the master, whatever lies between them then."""

from __future__ import annotations

import os
import select
import socket
from concurrent.futures import ThreadPoolExecutor

from forkserve.control.sampler import _answer


def test_it_ends_without_a_word_when_the_master_leaves_an_answer_unread() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(_answer, theirs.fileno())
        with ours:
            ours.sendall(b"[[%d],false]\n" % os.getpid())
            assert select.select([ours], [], [], 10)[0]
        assert answering.result(10) is None
