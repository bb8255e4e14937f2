"""The objects of a vhost in RabbitMQ's HTTP API, and the record of the managed objects."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from runner.admin.management_api import ManagementApi, ManagementError
from runner.config.version import DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT, QUORUM, parsed
from runner.topology.definitions import UNDEFINED
from runner.topology.effective_settings import Policies
from runner.topology.live import Live, LiveBinding, LiveQueue, Owned
from runner.topology.model import Binding, Exchange, Policy, Queue

#: The prefix of the global parameter that contains the record of the managed objects. The vhost's name follows.
OWNED = "fastcommerce"
_NOT_FOUND = 404


class Management(ManagementApi):
    """The objects of one vhost, read and changed through the HTTP API."""

    def live(self) -> Live:
        """Return all objects of the vhost. Raises ManagementError if an object cannot be read."""
        try:
            return self._live()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            text = f"not an answer from RabbitMQ, {type(error).__name__} {error}; another program uses this address"
            raise ManagementError(f"RabbitMQ's HTTP API at {self.url}: {text}", is_broken=True) from None

    def _live(self) -> Live:
        vhost = self.vhost
        overview = self.request("GET", "overview", query="?columns=rabbitmq_version,exchange_types")
        version = overview["rabbitmq_version"]
        exchanges = [_exchange(one) for one in self.request("GET", "exchanges", vhost) if not _is_predefined(one)]
        columns = "name,durable,auto_delete,exclusive,arguments,type,messages,consumers"
        queues = [_queue(one) for one in self.request("GET", "queues", vhost, query=f"?columns={columns}")]
        bindings = [_binding(one) for one in self.request("GET", "bindings", vhost) if one["source"]]
        policies = self.policies()
        return Live(
            version=parsed(str(version)),
            denied=self._denied_features(),
            exchanges={one.name: one for one in exchanges},
            queues={one.queue.name: one for one in queues},
            bindings={one.binding.key: one for one in bindings},
            policies={one.name: one for one in policies},
            owned=self.owned(),
            exchange_types=frozenset(str(one["name"]) for one in overview.get("exchange_types") or ()),
        )

    def _denied_features(self) -> frozenset[str] | None:
        """Return the deprecated features that the broker denies.

        The result is None if the broker does not report these features. RabbitMQ reports them since version 4.1.
        """
        try:
            found = self.request("GET", "deprecated-features")
        except ManagementError as error:
            if error.status == _NOT_FOUND or error.is_denied:
                return None
            raise
        if not any("state" in one for one in found):
            return None
        return frozenset(str(one["name"]) for one in found if one.get("state") == "denied")

    def owned(self) -> Owned:
        """Return the record of the managed objects, which is empty if the user lacks the permission to read it."""
        try:
            return Owned.from_json(self.request("GET", "global-parameters", self._owned_name)["value"])
        except ManagementError as error:
            if error.status == _NOT_FOUND or error.is_denied:
                return Owned()
            raise

    def remember(self, owned: Owned) -> None:
        """Record the managed objects on the broker. Raises ManagementError if the user lacks the permission."""
        body = {"name": self._owned_name, "value": owned.to_json()}
        self.request("PUT", "global-parameters", self._owned_name, body=body)

    @property
    def _owned_name(self) -> str:
        return f"{OWNED}.{self.vhost}"

    def policies(self) -> list[Policy]:
        """Return the policies of the vhost. Raises ManagementError."""
        return [_policy(one) for one in self.request("GET", "policies", self.vhost)]

    def put_policy(self, policy: Policy) -> None:
        """Create a policy, or change it in place."""
        body = {
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "priority": policy.priority,
            "definition": dict(policy.definition),
        }
        self.request("PUT", "policies", self.vhost, policy.name, body=body)

    def delete_policy(self, name: str) -> None:
        """Delete a policy, if it exists."""
        self._delete("policies", self.vhost, name)

    def may_set_policies(self) -> bool:
        """Return True if this user has a tag that allows setting policies (RabbitMQ: "Management Plugin")."""
        tags = self.request("GET", "whoami").get("tags") or []
        return bool({"administrator", "policymaker"} & set(tags.split(",") if isinstance(tags, str) else tags))

    def messages_of(self, queue: str) -> int | None:
        """Return the number of ready and unacked messages, from statistics that are a few seconds old.

        Return None if the queue is new, or if the broker has no statistics (``management_metrics_collection``).
        """
        return reported_count(self.queue(queue), "messages")

    def ready_of(self, queue: str) -> int | None:
        """Return the number of ready messages, or None if it is unknown. The statistics are a few seconds old."""
        return reported_count(self.queue(queue), "messages_ready")

    def unacknowledged_of(self, queue: str) -> int | None:
        """Return the number of unacked messages, or None if it is unknown. The statistics are a few seconds old."""
        return reported_count(self.queue(queue), "messages_unacknowledged")

    def type_of(self, queue: str) -> str:
        """Return the type of a queue."""
        return str(self.queue(queue).get("type"))

    def queue(self, name: str) -> dict[str, Any]:
        """Return the HTTP API's object for a queue. Raises ManagementError."""
        found: dict[str, Any] = self.request("GET", "queues", self.vhost, name)
        return found

    def policy_definition_of(
        self, queue: Mapping[str, Any], assumed: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the definition of the policy that applies to ``queue``, the HTTP API's object for a queue.

        The API reads the definition from statistics. The statistics lack the definition for a few seconds after a queue
        or its node starts, by default for 5 s (RabbitMQ: "Configuration", collect_statistics_interval). During this
        time, the definition is computed from the policies. If the user lacks the permission to read the policies, the
        definition is ``assumed``. Raises ManagementError.
        """
        found = queue.get("effective_policy_definition")
        if found and isinstance(found, dict):
            return found
        try:
            policies = Policies(self.policies())
        except ManagementError as error:
            if not error.is_denied:
                raise
            return dict(assumed)
        # The arguments of a classic queue may lack the queue type.
        arguments = {**(queue.get("arguments") or {}), "x-queue-type": queue.get("type", "classic")}
        applying = policies.applying(Queue(str(queue["name"]), bool(queue.get("durable")), arguments))
        return dict(applying.definition) if applying is not None else {}

    def delivery_limit_of(self, name: str) -> int | None:
        """Return the number of failed deliveries after which a queue dead-letters or drops a message.

        None means no limit. Raises ManagementError.
        """
        found = self.queue(name)
        if found.get("type") != QUORUM:
            return None
        arguments, policy = found.get("arguments") or {}, self.policy_definition_of(found)
        said = (arguments.get("x-delivery-limit"), policy.get("delivery-limit"))
        limits = [int(one) for one in said if isinstance(one, int)]
        if not limits:
            version = str(self.request("GET", "overview", query="?columns=rabbitmq_version")["rabbitmq_version"])
            return DEFAULT_DELIVERY_LIMIT if HAS_DELIVERY_LIMIT.holds(parsed(version)) else None
        return min(limits) if min(limits) >= 0 else None

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue, if it exists.

        A classic queue is deleted only if it is empty and unused. RabbitMQ does not support this condition for other
        queue types.
        """
        query = "?if-empty=true&if-unused=true" if queue.type == "classic" else ""
        self._delete("queues", self.vhost, queue.name, query=query)

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange with its bindings, if it exists."""
        self._delete("exchanges", self.vhost, name)

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding, if it exists."""
        self._delete(*self._ends(one.binding), one.properties_key)

    def _ends(self, binding: Binding) -> tuple[str, ...]:
        kind = "q" if binding.destination_type == "queue" else "e"
        return ("bindings", self.vhost, "e", binding.source, kind, binding.destination)

    def _delete(self, *parts: str, query: str = "") -> None:
        # A repeated request gets a 404 if the broker deleted the object before the first request failed.
        try:
            self.request("DELETE", *parts, query=query)
        except ManagementError as error:
            if error.status != _NOT_FOUND:
                raise


def reported_count(one: dict[str, Any], name: str) -> int | None:
    """Return a count from the HTTP API's object for a queue, or None if the count is unknown."""
    value = one.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_predefined(exchange: dict[str, Any]) -> bool:
    return exchange["name"] == "" or str(exchange["name"]).startswith("amq.")


def _exchange(one: dict[str, Any]) -> Exchange:
    return Exchange(
        one["name"], one["type"], one["durable"], one["internal"], one.get("arguments") or {}, one["auto_delete"]
    )


def _queue(one: dict[str, Any]) -> LiveQueue:
    # The API reports the queue type separately, because the arguments of a classic queue may lack the type.
    arguments = {**(one.get("arguments") or {}), "x-queue-type": one.get("type", "classic")}
    return LiveQueue(
        Queue(one["name"], one["durable"], arguments, one["auto_delete"]),
        reported_count(one, "messages"),
        reported_count(one, "consumers"),
        bool(one.get("exclusive")),
    )


def _binding(one: dict[str, Any]) -> LiveBinding:
    # For a header without a value, the API reports the word UNDEFINED, but does not accept this word in requests.
    arguments = {name: None if value == UNDEFINED else value for name, value in (one.get("arguments") or {}).items()}
    binding = Binding(one["source"], one["destination"], one["destination_type"], one["routing_key"], arguments)
    return LiveBinding(binding, one.get("properties_key", "~"))


def _policy(one: dict[str, Any]) -> Policy:
    return Policy(one["name"], one["pattern"], one["apply-to"], one["definition"], one.get("priority", 0))
