"""Which files and parts of them an ASGI application may have sent."""

from __future__ import annotations

import os
from typing import Any

import pytest

from forkserve.serving.asgi.files import file_part


def test_a_number_is_no_path_and_its_descriptor_stays_open() -> None:
    with open(os.devnull, "rb") as file:
        with pytest.raises(TypeError, match="not int"):
            file_part({"type": "http.response.pathsend", "path": file.fileno()})
        os.fstat(file.fileno())


@pytest.mark.parametrize("wrong", [{"count": -5}, {"offset": -1}, {"offset": 0, "count": "1"}])
def test_a_part_has_an_offset_and_a_count_that_can_be(wrong: dict[str, Any]) -> None:
    with open(__file__, "rb") as file, pytest.raises((ValueError, TypeError)):
        file_part({"type": "http.response.zerocopysend", "file": file, **wrong})
