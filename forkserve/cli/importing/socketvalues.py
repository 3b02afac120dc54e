"""The keys of a socket for an address in the file of another program, in which a variable may stand for host or port.

Rules: pure.
"""

from __future__ import annotations

import re

from forkserve.cli.importing.draft import Scalar
from forkserve.config.address import ANY_IPV4, parse_address

__all__ = ["socket_values"]

_VARIABLE = r"\$\(circus\.env\.\w+\)"
_WITH_VARIABLE = re.compile(rf"(?:tcp://|http://)?(?P<host>{_VARIABLE}|[\w.*-]*):(?P<port>{_VARIABLE}|\d{{1,5}})/?")


def socket_values(text: str) -> dict[str, Scalar]:
    """Return host and port, or the path; raises ValueError that names the accepted forms."""
    found = _WITH_VARIABLE.fullmatch(text.strip())
    if found is not None and "$" in text:
        host = found["host"]
        return {"host": ANY_IPV4 if host in ("", "*") else host, "port": found["port"]}
    address = parse_address(text)
    if address.path is not None:
        return {"path": address.path}
    if address.fd is not None:
        return {"fd": address.fd}
    return {"host": address.host, "port": address.port}
