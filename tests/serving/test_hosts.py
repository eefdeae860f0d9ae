"""Which Host and Origin headers a server accepts."""

import socket

import pytest

from tfxc.core.errors import ConfigError
from tfxc.serving.hosts import Hosts
from tfxc.serving.limits import RequestError

LOCAL = Hosts("127.0.0.1")
EVERYWHERE = Hosts("0.0.0.0")
NAMED = Hosts("192.0.2.7", "bot.example", ["labels.example", "2001:DB8::1"])


def status(hosts, *headers):
    """200, or the status of the refusal; headers are texts ``name: value``."""
    pairs = [tuple(part.encode("latin-1") for part in header.split(": ", 1)) for header in headers]
    try:
        hosts.check(pairs)
    except RequestError as error:
        assert len(str(error)) < 300
        return error.status
    return 200


@pytest.mark.parametrize(
    ("hosts", "name", "answer"),
    [
        (LOCAL, "127.0.0.1", 200),
        (LOCAL, "127.0.0.1:8501", 200),
        (LOCAL, "LocalHost.:9", 200),
        (LOCAL, "[::1]:8501", 200),
        (LOCAL, "[0:0:0:0:0:0:0:1]", 200),
        (LOCAL, "evil.example:8501", 421),
        (LOCAL, "192.0.2.7", 421),
        (LOCAL, "127.0.0.1.evil.example", 421),
        (LOCAL, "localhost:8501@evil.example", 421),
        (LOCAL, "localhost, evil.example", 421),
        (LOCAL, "", 421),
        (LOCAL, "x" * 60_000, 421),
        (LOCAL, "\xff", 421),
        (Hosts("127.0.0.7"), "127.0.0.7", 200),
        (Hosts("::1"), "localhost", 200),
        (Hosts("127.0.0.1", "mine.example"), "mine.example", 200),
        (EVERYWHERE, "198.51.100.3:80", 200),
        (EVERYWHERE, "[2001:db8::2]", 200),
        (EVERYWHERE, socket.gethostname(), 200),
        (EVERYWHERE, "evil.example", 421),
        (Hosts("::"), "198.51.100.3", 200),
        (NAMED, "192.0.2.7", 200),
        (NAMED, "bot.example", 200),
        (NAMED, "LABELS.example:443", 200),
        (NAMED, "[2001:db8::1]", 200),
        (NAMED, "localhost", 421),
        (NAMED, "192.0.2.8", 421),
    ],
)
def test_hosts(hosts, name, answer):
    assert status(hosts, f"host: {name}") == answer


def test_one_host_is_named():
    assert status(LOCAL) == 400
    assert status(LOCAL, "host: localhost", "host: localhost") == 400


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "answer"),
    [
        (LOCAL, "127.0.0.1:8501", "http://127.0.0.1:8501", 200),
        (LOCAL, "127.0.0.1", "http://127.0.0.1:80", 200),
        (LOCAL, "127.0.0.1", "https://127.0.0.1:443", 200),
        (LOCAL, "127.0.0.1:8501", "http://127.0.0.1:3000", 403),
        (LOCAL, "127.0.0.1:8501", "http://localhost:8501", 403),
        (LOCAL, "127.0.0.1:8501", "http://evil.example", 403),
        (LOCAL, "127.0.0.1:8501", "null", 403),
        (LOCAL, "127.0.0.1:8501", "file://", 403),
        (LOCAL, "127.0.0.1:8501", "", 403),
        (NAMED, "192.0.2.7:8501", "https://labels.example", 200),
        (NAMED, "192.0.2.7:8501", "https://bot.example", 403),
        (EVERYWHERE, "198.51.100.3:8501", "http://198.51.100.4:8501", 403),
    ],
)
def test_origins(hosts, host, origin, answer):
    assert status(hosts, f"host: {host}", f"origin: {origin}") == answer
    twice = ("origin: http://evil.example", f"origin: {origin}")
    assert status(hosts, f"host: {host}", *twice) == 403


@pytest.mark.parametrize("name", ["", "https://labels.example", "labels.example:80", "a b"])
def test_impossible_names(name):
    with pytest.raises(ConfigError, match=r"--allow-host: '.*' is not a host name"):
        Hosts(allowed=[name])
