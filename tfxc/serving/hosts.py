"""The names that a server answers to, so that pages of other sites cannot use it.

A page of ``evil.example`` that has its visitor's browser ask 127.0.0.1 names another origin than
that of the server. One that lets ``evil.example`` lead to 127.0.0.1 for a moment (DNS rebinding) is
of the same origin, but names a host that this server is not known by.

Source: https://fetch.spec.whatwg.org/#origin-header, RFC 9110, section 7.2
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence

from tfxc.core.errors import ConfigError
from tfxc.serving.limits import RequestError, bad_request

_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/?#@\\\s,]+)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(.*)")
_PORTS = {"http": "80", "https": "443"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SHOWN = 60

Headers = Sequence[tuple[bytes, bytes]]


class Hosts:
    """Refuses requests that name another host than this server, or come from a page of another one.

    * At an address of this machine alone (127.0.0.1, ::1) the server answers to that address and to
      localhost, 127.0.0.1 and [::1].
    * At any other address it answers to that address, and to the name that was given for it.
    * At all addresses (0.0.0.0, ::) it answers to every IP address, to localhost and to the name
      of the machine: no page's own name leads to an address in a ``Host`` header.

    Ports of ``Host`` are not compared, since a forwarded port may be another one.

    Args:
        address: where the server listens: an IP address.
        name: what the user has called it.
        allowed: more names. Pages of these hosts may ask as well, at any port: a proxy may send
            another ``Host`` than that of its pages.

    Raises:
        ConfigError: an allowed name cannot be that of a host.

    Example:
        >>> hosts = Hosts("127.0.0.1")
        >>> hosts.check([(b"host", b"localhost:8501")])
        >>> hosts.check([(b"host", b"evil.example")])
        Traceback (most recent call last):
        tfxc.serving.limits.RequestError: Host: this server is not known as 'evil.example'. \
Start it with --allow-host evil.example if that is right.
    """

    def __init__(
        self, address: str = "127.0.0.1", name: str | None = None, allowed: Iterable[str] = ()
    ) -> None:
        self._allowed = {_allowed(host) for host in allowed}
        listening = ipaddress.ip_address(address.partition("%")[0])
        self._any_address = listening.is_unspecified
        self._names = {_name(address), _name(name or address), *self._allowed}
        if listening.is_loopback or self._any_address:
            self._names |= set(_LOOPBACK)
        if self._any_address:
            self._names.add(_name(socket.gethostname()))

    def check(self, headers: Headers) -> None:
        """Refuses a request by its headers.

        Args:
            headers: names in lower case, and values.

        Raises:
            RequestError: 400, there is no ``Host``, or there are several; 421, it is another one;
                403, a page of another host asks.
        """
        named = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(named) != 1:
            count = f"has {len(named)}" if named else "has none"
            raise bad_request(f"a request needs one Host header, this {count}", "Host", "send one")
        host = _split(named[0])
        known = host is not None and (
            host[0] in self._names or (self._any_address and _is_address(host[0]))
        )
        if host is None or not known:
            shown = named[0][:_SHOWN]
            fix = "send the name or the address of the server"
            if host:
                fix = f"start it with --allow-host {host[0][:_SHOWN]} if that is right"
            raise RequestError(421, f"this server is not known as {shown!r}", where="Host", fix=fix)
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        for origin in origins:
            if not self._welcomes(origin, host):
                raise RequestError(
                    403,
                    f"pages of {origin[:_SHOWN]!r} may not use this server",
                    where="Origin",
                    fix="start it with --allow-host and the page's host if they should",
                )

    def _welcomes(self, origin: str, host: tuple[str, str | None]) -> bool:
        """Tells whether a page is one of this server's, or of a host that is allowed."""
        parts = _ORIGIN.fullmatch(origin)
        page = _split(parts[2]) if parts else None
        if parts is None or page is None:
            return False
        usual = _PORTS[parts[1]]
        same = page[0] == host[0] and (page[1] or usual) == (host[1] or usual)
        return same or page[0] in self._allowed


def _split(authority: str) -> tuple[str, str | None] | None:
    """Returns name and port, perhaps None, of ``NAME:PORT``; None if it is no such text."""
    parts = _AUTHORITY.fullmatch(authority)
    return (_name(parts[1]), parts[2]) if parts else None


def _name(text: str) -> str:
    """Returns one spelling of a host's name or address."""
    text = text.strip("[]").removesuffix(".").lower()
    return str(ipaddress.ip_address(text)) if _is_address(text) else text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _allowed(host: str) -> str:
    if _is_address(host):
        return _name(host)
    parts = _split(host)
    if parts is None or parts[1] is not None:
        raise ConfigError(
            f"{host!r} is not a host name",
            where="--allow-host",
            fix="give a name or an address without scheme and port, e.g. labels.example.org",
        )
    return parts[0]
