"""Addresses of sockets in the files of other programs, with variables in them."""

from __future__ import annotations

import pytest

from forkserve.cli.importing.socketvalues import socket_values
from forkserve.config.placeholders import unset_text

PORT = "$(circus.env.PORT)"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (f":{PORT}", {"host": "0.0.0.0", "port": PORT}),
        (f"tcp://127.0.0.1:{PORT}", {"host": "127.0.0.1", "port": PORT}),
        (f"*:{PORT}", {"host": "0.0.0.0", "port": PORT}),
        ("$(circus.env.HOST):80", {"host": "$(circus.env.HOST)", "port": "80"}),
        ("127.0.0.1:80", {"host": "127.0.0.1", "port": 80}),
        ("unix:/tmp/$(circus.env.NAME).sock", {"path": "/tmp/$(circus.env.NAME).sock"}),
        ("fd://0", {"fd": 0}),
    ],
)
def test_a_variable_may_be_the_host_or_the_port(text: str, values: dict[str, object]) -> None:
    assert socket_values(text) == values


def test_what_is_no_address_is_an_error_with_a_variable_as_well() -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        socket_values(f"a b:{PORT}")


def test_several_variables_that_are_not_set_are_listed() -> None:
    assert unset_text("$(circus.env.A1) $(circus.env.B1)") == "the variables A1, B1 are not set"
