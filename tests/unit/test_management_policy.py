"""The policy of a queue is known even before RabbitMQ's statistics contain it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.admin.management import Management
from runner.admin.management_api import ManagementError

LATE: list[dict[str, Any]] = [
    {},
    {"effective_policy_definition": None},
    {"effective_policy_definition": {}},
    {"effective_policy_definition": []},
    {"effective_policy_definition": "", "policy": None},
]


class Broker(Management):
    """A broker that reports one queue and some policies."""

    def __init__(self, queue: dict[str, Any], refusal: int | None = None) -> None:
        super().__init__("amqp://guest:guest@127.0.0.1:1/", "http://127.0.0.1:1")
        self._object, self._refusal = queue, refusal

    def request(self, method: str, *parts: str, body: Any = None, query: str = "") -> Any:
        """Return the response of RabbitMQ."""
        if parts[0] == "overview":
            return {"rabbitmq_version": "3.10.8"}
        if parts[0] == "queues":
            return self._object
        if self._refusal is not None:
            raise ManagementError("refused", self._refusal)
        common = {"vhost": "/", "apply-to": "queues"}
        return [
            common | {"name": "low", "pattern": "^pay", "priority": 0, "definition": {"max-length": 1}},
            common | {"name": "high", "pattern": "^pay$", "priority": 5, "definition": {"delivery-limit": 3}},
            common | {"name": "other", "pattern": "^mail", "priority": 9, "definition": {"delivery-limit": 1}},
            common | {"name": "ex", "pattern": "pay", "priority": 9, "apply-to": "exchanges", "definition": {"a": 1}},
        ]


def queue(name: str = "pay", **values: Any) -> dict[str, Any]:
    return {"name": name, "durable": True, "type": "quorum", "arguments": {"x-queue-type": "quorum"}} | values


@pytest.mark.parametrize("late", LATE)
def test_a_policy_that_the_statistics_lack_is_computed_from_the_policies(late: dict[str, Any]) -> None:
    assert Broker(queue(**late)).policy_definition_of(queue(**late)) == {"delivery-limit": 3}
    assert Broker(queue(**late)).delivery_limit_of("pay") == 3
    assert Broker(queue("payments", **late)).policy_definition_of(queue("payments", **late)) == {"max-length": 1}
    assert Broker(queue("orders", **late)).policy_definition_of(queue("orders", **late)) == {}
    assert Broker(queue("orders", **late)).delivery_limit_of("orders") is None


def test_a_policy_that_the_statistics_have_is_taken_from_them() -> None:
    # It includes an operator's policy, which is not among the policies.
    found = queue(effective_policy_definition={"delivery-limit": 2, "max-length": 9})
    assert Broker(found).policy_definition_of(found) == {"delivery-limit": 2, "max-length": 9}
    assert Broker(found).delivery_limit_of("pay") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_if_policies_may_not_be_read_the_file_is_used(status: int) -> None:
    assert Broker(queue(), status).policy_definition_of(queue(), {"max-length": 7}) == {"max-length": 7}


@pytest.mark.parametrize("status", [0, 404, 500])
def test_a_failure_is_not_mistaken_for_a_missing_policy(status: int) -> None:
    with pytest.raises(ManagementError):
        Broker(queue(), status).policy_definition_of(queue())
