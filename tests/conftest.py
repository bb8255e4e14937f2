"""The fixtures of all tests: a private RabbitMQ, a vhost for each test, and projects to run."""

from __future__ import annotations

import compileall
import contextlib
import importlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from runner.admin import declaration as declare_module
from runner.amqp.pika_adapter import VARIABLE as PIKA
from tests import inheritance
from tests import jobs as jobs_project
from tests.installation import use_installation
from tests.postgres import Postgres
from tests.rabbit import LIMITS, QUICK, Rabbit, Vhost
from tests.reaper import Reaper
from tests.running import ROOT, Project
from tests.supervised import Supervise

# The time of one example depends more on the other processes of the machine than on the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

_reaper = pytest.StashKey[Reaper]()


def pytest_configure(config: pytest.Config) -> None:
    """Set the same process attributes for every run, and start a guardian for the processes of the tests."""
    inheritance.reset()
    config.stash[_reaper] = Reaper()
    # Many processes import these files first at the same time, and each would compile them.
    if not hasattr(config, "workerinput"):  # only the processes of pytest-xdist have one
        for name in ("runner", "plugins"):
            compileall.compile_dir(ROOT / name, quiet=2)
        use_installation()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import a share of the test modules in each process of pytest-xdist, before all processes import all.

    pytest rewrites the assertions of a module, which takes longer than the import, and keeps the result for the others.
    """
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    folders = [session.config.invocation_params.dir / argument for argument in session.config.args]
    files = sorted({file for folder in folders for file in folder.rglob("test_*.py") if file.is_relative_to(ROOT)})
    for file in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        # If the import fails, the collection of the tests reports it.
        with contextlib.suppress(Exception):
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_report_header() -> str:
    """Name the RabbitMQ of the tests."""
    server = use_installation()
    return f"rabbitmq: {'none' if server is None else server.version}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Kill all remaining processes."""
    config.stash[_reaper].close()


@pytest.fixture(scope="session")
def reaper(pytestconfig: pytest.Config) -> Reaper:
    """Return the guardian of this process's children."""
    return pytestconfig.stash[_reaper]


@pytest.fixture(autouse=True)
def _ends_what_it_starts(reaper: Reaper) -> Iterator[None]:
    """Fail a test that leaves processes, and kill them. All other fixtures of a test end before this one."""
    with reaper.one_test():
        yield


@pytest.fixture(autouse=True)
def _environment(_ends_what_it_starts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the processes of a test import this tree."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


@pytest.fixture(params=["fast", "plain"])
def each_connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the product's connection, and with pika's own."""
    if request.param == "plain":
        monkeypatch.setenv(PIKA, "plain")
    else:
        monkeypatch.delenv(PIKA, raising=False)


@pytest.fixture(autouse=True)
def _declares_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the wait after a declaration, which is needed only if a test kills its broker."""
    monkeypatch.delenv("FASTCOMMERCE_SETTLE", raising=False)
    if request.node.get_closest_marker("kills_broker") is None:
        monkeypatch.setattr(declare_module, "SETTLES", False)
        if "vhost" in request.fixturenames:
            # The broker of this vhost lives as long as all tests, so the runners of the tests need not wait either.
            monkeypatch.setenv("FASTCOMMERCE_SETTLE", "0")


@pytest.fixture(scope="session")
def rabbit(reaper: Reaper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """Provide one RabbitMQ for all tests of this process. A test that stops its broker uses ``mortal``."""
    # Most tests read counts right after an event. Brokers of single tests report their counts later.
    with reaper.all_tests():
        node = Rabbit(tmp_path_factory.mktemp("rabbit") / "broker", QUICK)
    yield node
    node.stop()


@pytest.fixture(scope="session")
def limited(reaper: Reaper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """Provide a RabbitMQ that reports no counts and refuses messages of more than 1,000 bytes.

    Its tests are in the group ``rabbit.LIMITED``, so that they share it.
    """
    with reaper.all_tests():
        node = Rabbit(tmp_path_factory.mktemp("limited") / "broker", LIMITS)
    yield node
    node.stop()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Vhost]:
    """Provide an empty vhost of a RabbitMQ that the test may stop and kill."""
    node = Rabbit(tmp_path / "mortal")
    try:
        yield node.make_vhost("test")
    finally:
        node.stop()


@pytest.fixture(scope="session")
def postgres(reaper: Reaper) -> Iterator[Postgres]:
    """Provide one PostgreSQL for all tests of this process. A test that stops its server creates its own."""
    with reaper.all_tests():
        server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Provide the address of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database(f"test_{uuid.uuid4().hex[:8]}")


@pytest.fixture
def vhost(rabbit: Rabbit) -> Iterator[Vhost]:
    """Provide an empty vhost for this test."""
    one = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    yield one
    one.delete()


@pytest.fixture
def jobs(project: Project) -> Project:
    """Provide a project with one service, whose plugin the test writes."""
    project.set_topology(jobs_project.TOPOLOGY)
    project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, **jobs_project.CONFIG})
    return project


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Provide supervisors whose children misbehave as the test wants."""
    one = Supervise(tmp_path)
    yield one
    one.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Provide a copy of the shipped project without audit, in the test's folder, with a free port for the API."""
    one = Project(tmp_path / "project")
    yield one
    one.close()


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Project]:
    """Provide a copy of the whole shipped project, with a free port for the API."""
    one = Project(tmp_path / "project", audit=True)
    yield one
    one.close()
