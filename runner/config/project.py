"""A project, which is a folder with topology.yaml and config.yaml. Both files are checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.address import Address
from runner.bounded_file import FileTooLarge, read_bounded
from runner.config.config_file import Config, event_type, is_misplaced_key, is_service_name
from runner.config.cross_checks import check_references, exchange_names
from runner.config.document import MAX_BYTES, Document
from runner.config.error_detail import ErrorDetail, one_of, unknown
from runner.config.error_detail import Path as KeyPath
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.config.value import MAX_NAME_BYTES
from runner.config.version import STREAM
from runner.contract import Terms
from runner.errors import ConfigError
from runner.messages import ATTEMPTS, EVENTS

TOPOLOGY_FILE = "topology.yaml"
CONFIG_FILE = "config.yaml"
#: The number of seconds to wait for data if a file is a pipe.
SILENCE_SECONDS = 2.0
#: The names for the supervisor and its private broker in logs and commands.
RESERVED = ("broker", "runner")


@dataclass(frozen=True)
class Project:
    """The models of both files, with the documents for the line numbers of later errors."""

    folder: Path
    topology: Topology
    config: Config
    topology_document: Document
    config_document: Document
    #: The terms of plugin contracts, by service. The mapping is empty until the plugins are checked.
    terms: Mapping[str, Terms] = field(default_factory=dict)

    @property
    def var(self) -> Path:
        """The folder for runtime data, such as the lock, the private broker's files and the database."""
        return self.folder / "var"

    @property
    def consumed(self) -> frozenset[str]:
        """The queues that the project's services consume."""
        return frozenset(queue for service in self.config.services.values() for queue in service.consumes)

    def recorders(self, what: str) -> list[str]:
        """Return the services whose plugins record ``events`` or ``attempts`` in the event history."""
        services = self.config.services
        return [name for name, one in self.terms.items() if what in one.records and services[name].consumes]

    def store_of(self, service: str) -> str:
        """Return the address of a service's database."""
        return (self.config.services[service].store or self.config.store).url

    @property
    def history_store(self) -> str:
        """The address of the database that contains the event history."""
        recorders = [*self.recorders(EVENTS), *self.recorders(ATTEMPTS)]
        return self.store_of(recorders[0]) if recorders else self.config.store.url

    @property
    def attempts_queue(self) -> str | None:
        """The queue for attempt reports, which is the first queue of the service that records attempts."""
        return next((self.config.services[name].consumes[0] for name in self.recorders(ATTEMPTS)), None)

    @property
    def statuses(self) -> dict[str, str]:
        """The order status after an event, by event type."""
        return {event: status for terms in self.terms.values() for event, status in terms.statuses.items()}

    def topology_line(self, path: KeyPath) -> str:
        """Return the file and line of a path in topology.yaml, such as ``topology.yaml:14``."""
        return self.place(TOPOLOGY_FILE, path)

    def place(self, file: str, path: KeyPath) -> str:
        """Return the file and line of a path, such as ``topology.yaml:14`` or ``config.yaml:9``."""
        document = self.topology_document if file == TOPOLOGY_FILE else self.config_document
        return f"{file}:{document.line(path)}"

    def raise_faults(self) -> None:
        """Raise ConfigError if there are errors. The errors are sorted by file (topology.yaml first) and line."""
        faults = [*sorted(set(self.topology_document.faults)), *sorted(set(self.config_document.faults))]
        if faults:
            raise ConfigError([str(fault) for fault in faults])


def load_project(folder: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Read topology.yaml and config.yaml in ``folder``. Raises ConfigError with all errors in both files."""
    project = read_project(folder, environment)
    project.raise_faults()
    return project


def read_project(folder: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Read both files in ``folder``. The documents contain all errors, and the models omit invalid values."""
    topology_document = _read(folder, TOPOLOGY_FILE, environment)
    config_document = _read(folder, CONFIG_FILE, environment)
    topology = validate_document(Topology, topology_document)
    config = validate_document(Config, config_document)
    check_references(topology, topology_document)
    _check_services(config, topology, topology_document, config_document)
    _check_fault_injection(config, config_document)
    return Project(folder, topology, config, topology_document, config_document)


def _read(folder: Path, name: str, environment: Mapping[str, str] | None) -> Document:
    line = 1
    try:
        raw = read_bounded(folder / name, MAX_BYTES, SILENCE_SECONDS)
        return Document(name, raw.decode("utf-8"), environment)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8 text, byte {error.start}; save the file as UTF-8"
    except FileTooLarge as error:
        problem = f"the file is too large; allowed: {error.limit} bytes"
    except TimeoutError as error:
        problem = f"cannot be read, {error.strerror}; allowed: a file"
    except FileNotFoundError:
        problem = f"no such file in {str(folder)!r}; set the project folder with --project DIR"
    except OSError as error:
        problem = f"cannot be read, {error.strerror}; give this user permission to read the file"
    document = Document(name, "", environment)
    document.faults.append(ErrorDetail(name, line, "", problem))
    return document


def _check_fault_injection(config: Config, document: Document) -> None:
    """Report ``fault_injection: true`` if the broker or the database is on another machine."""
    if not config.fault_injection:
        return
    there = [f"broker on another machine, {one}" for one in map(Address.of, config.broker.url) if one.loopback is None]
    stores = [config.store, *(one.store for one in config.services.values() if one.store is not None)]
    hosts = dict.fromkeys(host for store in stores for host in store.remote_hosts)
    for problem in (*there, *(f"database on another machine, {host!r}" for host in hosts)):
        text = f"not with a {problem}; allowed: a broker and a database on 127.0.0.1, ::1 or localhost"
        document.fault(("fault_injection",), text)


def _check_services(config: Config, topology: Topology, declared: Document, document: Document) -> None:
    for name in document.keys_of("services"):
        if is_misplaced_key(name, document.at(("services", name))):
            # The entry is not a service, so all other errors in the entry follow from the misplaced key.
            document.forget_faults(("services", name))
            document.fault(("services", name), f"{name!r} belongs under a service; indent it below the service's name")
        elif not is_service_name(name):
            allowed = "allowed: 1 to 40 characters of a-z, 0-9, _ and -, starting with a-z"
            text = f"not a service name, {name!r}; {allowed}"
            document.fault(("services", name), text)
        elif name in RESERVED:
            text = f"a reserved name, {name!r}; allowed: names other than {' and '.join(RESERVED)}"
            document.fault(("services", name), text)
    _check_dependencies(config, document)
    if declared.is_unusable or not all(declared.is_mapping(section) for section in ("queues", "exchanges")):
        return  # otherwise, every reference to an unread section would be an error
    queues = declared.keys_of("queues")
    for name, service in config.services.items():
        _check_consumed(name, service.consumes, queues, topology, document)
        if service.inbox is not None and not service.consumes:
            document.fault(("services", name, "inbox"), "the service consumes no queue; remove the key 'inbox'")
        _check_published(name, service.publishes, exchange_names(declared), topology, document)


def _unknown_queue(queue: str, queues: set[str], topology: Topology, shown: str) -> str:
    if (name := topology.renamed.get(queue)) is not None:
        return f"a queue's former name, {shown}; use the current name {name!r} (see formerly in {TOPOLOGY_FILE})"
    return unknown("queue", queue, queues, shown)


def _check_dependencies(config: Config, document: Document) -> None:
    services = document.keys_of("services")
    for name, service in config.services.items():
        for index, other in enumerate(service.depends_on):
            place: KeyPath = ("services", name, "depends_on", index)
            if other not in services:
                document.fault(place, unknown("service", other, services, document.shown(place)))
            elif (way := _way_back(config, name, other)) is not None:
                text = f"a dependency cycle, {' -> '.join([name, *way])}; allowed: dependencies without cycles"
                document.fault(place, text)
        scale, place = service.autoscale, ("services", name, "autoscale")
        if scale is not None and not service.consumes:
            document.fault(
                place, "the service consumes no queue; remove the key 'autoscale', or add a queue under 'consumes'"
            )
        elif (
            scale is not None
            and "instances" in service.model_fields_set
            and not (scale.min <= service.instances <= scale.max)
        ):
            text = f"out of range, {service.instances}; allowed: {scale.min} to {scale.max}, the limits of autoscale"
            document.fault(("services", name, "instances"), text)


def _way_back(config: Config, start: str, here: str, seen: tuple[str, ...] = ()) -> list[str] | None:
    """Return a dependency path from ``here`` to ``start``, or None if there is no such path."""
    if here == start:
        return [here]
    for other in config.services[here].depends_on if here in config.services and here not in seen else ():
        if (way := _way_back(config, start, other, (*seen, here))) is not None:
            return [here, *way]
    return None


def _check_consumed(name: str, consumes: list[str], queues: set[str], topology: Topology, document: Document) -> None:
    dead_letters = {topology.dead_letter_of(queue) for queue in topology.queues}
    for index, queue in enumerate(consumes):
        place: KeyPath = ("services", name, "consumes", index)
        if queue not in queues and queue not in dead_letters:
            document.fault(place, _unknown_queue(queue, queues, topology, document.shown(place)))
        elif queue in topology.queues and topology.type_of(queue) == STREAM:
            # A stream stores no offset for the consumer, so a restarted worker would miss messages.
            text = f"a stream, {document.shown(place)}; allowed: a classic or quorum queue with the same bindings"
            document.fault(place, text)
        elif queue in topology.queues and len(topology.dead_letter_of(queue).encode()) > MAX_NAME_BYTES:
            text = f"the dead-letter queue name is too long; set dead_letter to a name of up to {MAX_NAME_BYTES} bytes"
            document.fault(place, text)
        elif queue in consumes[:index]:
            document.fault(place, f"duplicate queue {document.shown(place)}; keep only one")


def _check_published(
    name: str, publishes: dict[str, list[str]], exchanges: set[str], topology: Topology, document: Document
) -> None:
    types: set[str] = set()
    for exchange, templates in publishes.items():
        place: KeyPath = ("services", name, "publishes", exchange)
        if exchange not in exchanges:
            document.fault(place, unknown("exchange", exchange, exchanges))
        elif exchange in topology.exchanges and topology.exchanges[exchange].internal:
            document.fault(place, f"internal exchange {exchange!r}; allowed: an exchange that services can publish to")
        for index, template in enumerate(templates):
            if event_type(template) in types:
                text = f"duplicate event {event_type(template)!r}; allowed: one routing key for each event"
                document.fault((*place, index), text)
            types.add(event_type(template))


def choose_services(config: Config, names: tuple[str, ...]) -> list[str]:
    """Return the named services, or all services if ``names`` is empty. Raises ConfigError for an unknown name."""
    for name in names:
        if name not in config.services:
            raise ConfigError([f"run: unknown service {name!r}; {one_of(name, config.services)}"])
    return [name for name in config.services if not names or name in names]
