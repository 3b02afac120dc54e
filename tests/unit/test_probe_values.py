"""The values of `ready`."""

from __future__ import annotations

import pytest

from forkserve.config.probes import Probe, ProbeKind, probe, probe_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://[::1]:6379", Probe(ProbeKind.TCP, "tcp://[::1]:6379", "::1", 6379)),
        ("http://localhost", Probe(ProbeKind.HTTP, "http://localhost", "localhost", 80, "/")),
        ("http://a:8000/up?x=1", Probe(ProbeKind.HTTP, "http://a:8000/up?x=1", "a", 8000, "/up?x=1")),
        ("unix:@name", Probe(ProbeKind.UNIX, "unix:@name", path="@name")),
        ("exec:redis-cli 'ping me'", Probe(ProbeKind.EXEC, "exec:redis-cli 'ping me'", words=("redis-cli", "ping me"))),
        ("2.5", Probe(ProbeKind.PAUSE, "2.5", seconds=2.5)),
    ],
)
def test_probes_are_read(text: str, expected: Probe) -> None:
    assert probe(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "tcp://a:99999", "tcp://a:1/x", "https://a", "unix:relative", "-1", "nan", "exec:'"),
        *("http://a:0/", "tcp://a:0", "tcp://a:1?x", "http://b:c@a/", "http://a/#x", "http://a/b c", "http://a/\t"),
        *("http://a/\N{LATIN SMALL LETTER E WITH ACUTE}", "tcp://a..b:1", f"tcp://{'a' * 64}:1"),
    ],
)
def test_what_is_no_probe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        probe(text)


def test_placeholders_are_left_for_later() -> None:
    assert probe_text("tcp://127.0.0.1:80$(circus.wid)") == "tcp://127.0.0.1:80$(circus.wid)"
    assert probe_text("") is None
