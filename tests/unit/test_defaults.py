"""Each setting has one default, in its model in ``runner.config``."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from runner.config.config_file import ServiceSettings
from runner.preparation.programs import restart_policy_of
from runner.supervisor.autoscale import Autoscale
from runner.supervisor.program import RestartPolicy
from runner.worker.spec import WorkerSpec


@pytest.mark.parametrize("kind", [WorkerSpec, Autoscale])
def test_parameters_of_workers_and_the_supervisor_have_no_defaults_of_their_own(kind: type) -> None:
    assert [one.name for one in fields(kind) if (one.default, one.default_factory) != (MISSING, MISSING)] == []


def test_a_process_that_is_no_service_is_restarted_like_a_service_without_settings() -> None:
    settings = ServiceSettings()
    # Only workers send watchdog pings.
    assert restart_policy_of(settings) == RestartPolicy(watchdog=settings.watchdog)
