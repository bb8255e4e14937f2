"""The address of a broker, parsed from an ``amqp://`` URL."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

#: The environment variables that set the default user and vhost of RabbitMQ and its container image.
USER_VARIABLE = "RABBITMQ_DEFAULT_USER"
PASSWORD_VARIABLE = "RABBITMQ_DEFAULT_PASS"  # noqa: S105 - the variable's name, not its value
VHOST_VARIABLE = "RABBITMQ_DEFAULT_VHOST"

_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True)
class Login:
    """The user, password and virtual host for a connection to a broker."""

    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Login:
        """Return the login from environment variables, because all users can see command-line arguments."""
        return cls(
            environment.get(USER_VARIABLE, cls.user),
            environment.get(PASSWORD_VARIABLE, "guest"),
            environment.get(VHOST_VARIABLE, cls.vhost),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that ``from_environment`` reads."""
        return {USER_VARIABLE: self.user, PASSWORD_VARIABLE: self.password, VHOST_VARIABLE: self.vhost}


@dataclass(frozen=True)
class Address:
    """The address of a broker. The string form of an address omits the login, so it is safe to print."""

    host: str
    port: int
    is_tls: bool = False
    login: Login = Login()

    @classmethod
    def of(cls, url: str) -> Address:
        """Parse ``amqp://user:password@host:port/vhost`` as pika does. Only the scheme and the host are required.

        Raises ValueError for any other URL. The error does not quote the URL, which may contain a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("not an address; allowed: amqp://user:password@host:port/vhost") from None
        if parts.scheme not in _PORTS:
            raise ValueError(f"scheme {parts.scheme!r} is not AMQP; allowed: amqp://, amqps://")
        if parts.query and not re.fullmatch(r"heartbeat=\d{1,5}", parts.query, re.ASCII):
            raise ValueError("unknown query parameter; allowed: ?heartbeat=SECONDS, or no query")
        if not parts.hostname or port == 0:
            raise ValueError("the host or port is missing; allowed: amqp://user:password@host:port/vhost")
        if "/" in parts.path[1:]:
            raise ValueError("the vhost contains a '/'; write %2F instead")
        try:
            # Python also encodes a host name as IDNA before resolving it.
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError("the host name is not valid; allowed: amqp://user:password@host:port/vhost") from None
        login = Login(
            unquote(parts.username) if parts.username else "guest",
            unquote(parts.password) if parts.password is not None else "guest",
            unquote(parts.path[1:]) or "/",
        )
        is_tls = parts.scheme == "amqps"
        return cls(parts.hostname, port or _PORTS[parts.scheme], is_tls, login)

    def __str__(self) -> str:
        return authority(self.host, self.port)

    @property
    def loopback(self) -> str | None:
        """The broker's loopback IP address, or None if the broker is on another machine."""
        if self.host == "localhost":
            return "127.0.0.1"
        try:
            return self.host if ipaddress.ip_address(self.host).is_loopback else None
        except ValueError:
            return None


def authority(host: str, port: int) -> str:
    """Return ``host:port`` for use in a URL, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
