"""What the tests share: a private RabbitMQ, a vhost for each test, and projects to run."""

from __future__ import annotations

import compileall
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runner.amqp import declare as declare_module
from tests import jobs as jobs_project
from tests.installation import use_installation
from tests.postgres import Postgres
from tests.rabbit import Rabbit, Vhost
from tests.running import ROOT, Project
from tests.supervised import Supervise

# How long one example takes says more of what else the machine does than of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what some thousand processes will import, which Python would do in each where it may not write."""
    if not hasattr(config, "workerinput"):  # the processes of pytest-xdist have one
        for name in ("runner", "plugins"):
            compileall.compile_dir(ROOT / name, quiet=2)
        use_installation()


def pytest_report_header() -> str:
    """Name the RabbitMQ that the tests run."""
    server = use_installation()
    return f"rabbitmq: {'none' if server is None else server.version}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person's own settings must not reach the tests, nor colours their output."""
    for name in ("RABBITMQ_URL", "MAKELEVEL", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


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
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """One RabbitMQ for all tests of this process; a test that stops its broker makes its own."""
    os.environ.pop("RABBITMQ_URL", None)
    # Most tests look at counts when something has happened; those that make a broker of their own get late ones.
    node = Rabbit(tmp_path_factory.mktemp("rabbit") / "broker", statistics=500)
    yield node
    node.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests of this process; a test that stops its server makes its own."""
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
    """A copy of the shipped project in a folder of this test's own, with a free port for the API."""
    one = Project(tmp_path / "project")
    yield one
    one.close()
