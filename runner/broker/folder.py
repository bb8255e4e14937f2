"""The folder of a private node, with data, logs, configuration and cookie. Only the owner can read the folder."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from pathlib import Path

from runner.address import Login, authority
from runner.bounded_file import read_bounded
from runner.broker.installation import Installation
from runner.broker.port import Ports

_GIGABYTE = 1_000_000_000
_SALT_BYTES = 4
#: The maximum size in bytes of a file that is read from the folder. These files have only a few lines.
_MAX_BYTES = 64 * 1024
_ENABLED_PLUGINS = "[rabbitmq_management].\n"
#: An Erlang "Inet Configuration" with which the node's own name resolves even on small systems that lack /etc/hosts.
#: Other names resolve as usual.
_NAMES = '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n'
#: The environment variables that a node inherits. Inherited RabbitMQ or Erlang variables would change the node's
#: configuration.
_INHERITED = ("PATH", "TZ", "TMPDIR", "LANG", "LC_ALL")


class Folder:
    """The files of one node, and the environment variables that make RabbitMQ use only these files."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        #: The name of the node, which depends only on the folder. RabbitMQ's data can only be used under the same node
        #: name.
        self.node_name = f"fastcommerce-{digest}@localhost"
        self.home = self.path / "home"
        self.data = self.path / "data"
        self.logs = self.path / "log"
        self.console_log = self.logs / "console.log"
        self.node_log = self.logs / f"{self.node_name}.log"
        self.server_home = self.path / "server"
        self.pid_file = self.path / "node.pid"
        self.lock_file = self.path / "lock"
        self.env_file = self.path / "env"
        self.enabled_plugins_file = self.path / "enabled_plugins"
        self._names_file = self.path / "inetrc"
        self._conf_file = self.path / "rabbitmq.conf"
        self._definitions_file = self.path / "definitions.json"

    def make(self) -> None:
        """Create the private folders, and the cookie and the plugin list if they are missing."""
        for folder in (self.path, self.home, self.data, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            _write(cookie, secrets.token_hex(20), mode=0o400)
        if not self.enabled_plugins_file.exists():
            _write(self.enabled_plugins_file, _ENABLED_PLUGINS)

    def plugins(self) -> list[str]:
        """Return the plugins to enable, from a file that users may edit."""
        return re.findall(r"[a-z][a-z0-9_]*", read_bounded(self.enabled_plugins_file, _MAX_BYTES).decode())

    def configure(self, ports: Ports, host: str, login: Login) -> None:
        """Write the RabbitMQ configuration for this start."""
        free = shutil.disk_usage(self.path).free
        # RabbitMQ blocks all publishers when the free disk space falls below the limit. Therefore, an almost full disk
        # gets a lower limit.
        disk_limit = _GIGABYTE if free >= 2 * _GIGABYTE else free // 2
        _write(
            self._conf_file,
            f"listeners.tcp.1 = {host}:{ports.amqp}\n"
            f"management.tcp.ip = {host}\n"
            f"management.tcp.port = {ports.management}\n"
            f"load_definitions = {self._definitions_file}\n"
            f"disk_free_limit.absolute = {disk_limit}\n"
            "log.console = false\n"
            "log.file.level = info\n"
            # At the ``info`` level, each connection would write two log lines.
            "log.connection.level = error\n"
            "log.file.rotation.size = 5242880\n"
            "log.file.rotation.count = 3\n",
        )
        _write(self._definitions_file, json.dumps(_definitions(login)))
        _write(self._names_file, _NAMES)

    def login_change(self, login: Login) -> str | None:
        """Return a warning if the login has changed since the last start, otherwise None.

        RabbitMQ will accept the new login.
        """
        try:
            before = json.loads(read_bounded(self._definitions_file, _MAX_BYTES, 0.0))["users"][0]
            user, known = str(before["name"]), base64.b64decode(before["password_hash"])
        except (OSError, ValueError, LookupError, TypeError):
            return None  # the node has never been started
        if user != login.user:
            text = f"broker.url: the user has changed since the last start, from {user!r} to {login.user!r}"
        elif known != _hashed(known[:_SALT_BYTES], login.password):
            text = f"broker.url: the password of user {user!r} has changed since the last start"
        else:
            return None
        return f"{text}; the private RabbitMQ will accept the new login"

    def management_url(self, amqp_port: int) -> str | None:
        """Return the HTTP API's URL at the last start, or None if that start used another AMQP port."""
        try:
            text = read_bounded(self._conf_file, _MAX_BYTES, 0.0).decode()
        except OSError:
            return None
        settings = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
        if not settings.get("listeners.tcp.1", "").endswith(f":{amqp_port}"):
            return None
        return f"http://{authority(settings['management.tcp.ip'], int(settings['management.tcp.port']))}"

    def node_environment(self, epmd_port: int) -> dict[str, str]:
        """Return the complete environment of the node."""
        return self._inherited() | {
            "HOME": str(self.home),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_INETRC": str(self._names_file),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.path / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self._conf_file),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.enabled_plugins_file),
            "RABBITMQ_LOG_BASE": str(self.logs),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_PID_FILE": str(self.data / "rabbitmq.pid"),
            "RABBITMQ_PLUGINS_DIR": str(self.server_home / "plugins"),
            # With this setting, the start script replaces itself with Erlang, so that no shell runs between the node
            # and its parent.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def epmd_environment(self) -> dict[str, str]:
        """Return the complete environment of epmd."""
        return self._inherited()

    def write_env(self, server: Installation, epmd_port: int) -> None:
        """Write a shell script with which ``rabbitmqctl`` and similar tools connect to this node."""
        variables = {
            "HOME": str(self.home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_INETRC": str(self._names_file),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.enabled_plugins_file),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": self.node_name,
        }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        lines.append(f'export PATH={shlex.quote(str(server.home / "sbin"))}:"$PATH"\n')
        usage = f"# ( . {shlex.quote(str(self.env_file))}; rabbitmqctl status )\n"
        _write(self.env_file, usage + "".join(lines))

    @staticmethod
    def _inherited() -> dict[str, str]:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # RabbitMQ accepts non-ASCII names only in a UTF-8 locale.
        return {"LANG": "C.UTF-8", "PATH": os.defpath} | environment


def _definitions(login: Login) -> dict[str, object]:
    """Return RabbitMQ definitions with the configured user and vhost, so that a changed password takes effect."""
    return {
        "users": [
            {
                "name": login.user,
                "password_hash": base64.b64encode(_hashed(secrets.token_bytes(_SALT_BYTES), login.password)).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "administrator",
            }
        ],
        "vhosts": [{"name": login.vhost}],
        "permissions": [{"user": login.user, "vhost": login.vhost, "configure": ".*", "write": ".*", "read": ".*"}],
    }


def _hashed(salt: bytes, password: str) -> bytes:
    """Return a password as the salted hash that RabbitMQ stores (RabbitMQ: "Password Hashing")."""
    return salt + hashlib.sha256(salt + password.encode()).digest()


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file atomically. The new file is created with the permissions ``mode``."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(path)
