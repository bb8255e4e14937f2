"""What the tests share: a private RabbitMQ, a vhost for each test, and projects to run."""

from __future__ import annotations

import compileall
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runner.admin import declaration as declare_module
from runner.amqp.pika_adapter import VARIABLE as PIKA
from tests import inheritance
from tests import jobs as jobs_project
from tests.installation import use_installation
from tests.postgres import Postgres
from tests.rabbit import QUICK, Rabbit, Vhost
from tests.reaper import Reaper
from tests.running import ROOT, Project
from tests.supervised import Supervise

# How long one example takes says more of what else the machine does than of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

_reaper = pytest.StashKey[Reaper]()


def pytest_configure(config: pytest.Config) -> None:
    """Give every run the same process attributes, and a guardian for the processes that the tests start."""
    inheritance.reset()
    config.stash[_reaper] = Reaper()
    # Thousands of processes import these files, and each would compile them if Python may not write there.
    if not hasattr(config, "workerinput"):  # the processes of pytest-xdist have one
        for name in ("runner", "plugins"):
            compileall.compile_dir(ROOT / name, quiet=2)
        use_installation()


def pytest_report_header() -> str:
    """Name the RabbitMQ that the tests run."""
    server = use_installation()
    return f"rabbitmq: {'none' if server is None else server.version}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """End all processes that are left."""
    config.stash[_reaper].close()


@pytest.fixture(scope="session")
def reaper(pytestconfig: pytest.Config) -> Reaper:
    """Return the guardian of this process's children."""
    return pytestconfig.stash[_reaper]


@pytest.fixture(autouse=True)
def _ends_what_it_starts(reaper: Reaper) -> Iterator[None]:
    """Fail a test that leaves processes behind, and end those; no other fixture of a test ends after this one."""
    with reaper.one_test():
        yield


@pytest.fixture(autouse=True)
def _environment(_ends_what_it_starts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a test import this tree."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


@pytest.fixture(params=["fast", "plain"])
def each_connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with our connection, and with pika's own."""
    if request.param == "plain":
        monkeypatch.setenv(PIKA, "plain")
    else:
        monkeypatch.delenv(PIKA, raising=False)


@pytest.fixture(autouse=True)
def _declares_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a broker is killed the wait after a declaration is needed: in this process where a test says so."""
    monkeypatch.delenv("FASTCOMMERCE_SETTLE", raising=False)
    if request.node.get_closest_marker("kills_broker") is None:
        monkeypatch.setattr(declare_module, "SETTLES", False)
        if "vhost" in request.fixturenames:
            # The broker that has it lives as long as all tests, so no runner that a test starts need wait either.
            monkeypatch.setenv("FASTCOMMERCE_SETTLE", "0")


@pytest.fixture(scope="session")
def rabbit(reaper: Reaper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """One RabbitMQ for all tests of this process; a test that stops its broker uses ``mortal``."""
    # Most tests look at counts when something has happened; those that make a broker of their own get late ones.
    with reaper.all_tests():
        node = Rabbit(tmp_path_factory.mktemp("rabbit") / "broker", QUICK)
    yield node
    node.stop()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Vhost]:
    """An empty vhost of a RabbitMQ of this test's own, which the test may stop and kill."""
    node = Rabbit(tmp_path / "mortal")
    try:
        yield node.make_vhost("test")
    finally:
        node.stop()


@pytest.fixture(scope="session")
def postgres(reaper: Reaper) -> Iterator[Postgres]:
    """One PostgreSQL for all tests of this process; a test that stops its server makes its own."""
    with reaper.all_tests():
        server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database(f"test_{uuid.uuid4().hex[:8]}")


@pytest.fixture
def vhost(rabbit: Rabbit) -> Iterator[Vhost]:
    """An empty vhost of this test's own."""
    one = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    yield one
    one.delete()


@pytest.fixture
def jobs(project: Project) -> Project:
    """A project of one service, whose plugin a test writes."""
    project.set_topology(jobs_project.TOPOLOGY)
    project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, **jobs_project.CONFIG})
    return project


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Supervisors of children that misbehave as a test wants."""
    one = Supervise(tmp_path)
    yield one
    one.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A copy of the shipped project in a folder of this test's own, with a free port for the API; without audit."""
    one = Project(tmp_path / "project")
    yield one
    one.close()


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Project]:
    """A copy of the whole shipped project, with a free port for the API."""
    one = Project(tmp_path / "project", audit=True)
    yield one
    one.close()
