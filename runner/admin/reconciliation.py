"""The reconciliation of a broker with topology.yaml: a comparison, and the application of the allowed changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from runner.admin.administrator import Administrator
from runner.admin.apply import apply
from runner.admin.declaration import declare
from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import look, version_at
from runner.admin.statistics import counted_by_queues
from runner.config.project import Project
from runner.config.version import Version
from runner.errors import BrokerRefused, BrokerUnreachable, DeclarationRefused
from runner.topology.compatibility import conflicts
from runner.topology.compile import CONSUMER_TIMEOUT_KEY, compile_topology, consumer_timeout, path_of
from runner.topology.consent import Consent, decide
from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.plan import Change, Decision, Left, Plan
from runner.topology.planner import make_plan
from runner.topology.queue_limits import at_default_limit, uncounted
from runner.topology.retire import missing
from runner.topology.timeouts import acknowledgement_times, short_consumer_timeout, with_longer_timeouts


@dataclass(frozen=True)
class Comparison:
    """The objects on a broker, compared with the objects in topology.yaml."""

    project: Project
    objects: Objects
    plan: Plan
    #: The state of the broker, or None if the HTTP API is unreachable. In that case, ``plan`` lists the settings that
    #: could not be compared.
    live: Live | None = None
    management: Management | None = None

    def decision(self, consent: Consent) -> Decision:
        """Split the plan into the changes that the consent allows and the remaining changes."""
        if self.live is None:
            return Decision(target=self.objects)
        return decide(self.plan, self.objects, self.live, consent)

    def place_of(self, thing: Exchange | Queue | Binding | Policy) -> str:
        """Return an object's file and line, such as ``topology.yaml:14``."""
        return self.project.topology_line(path_of(thing, self.project.topology))


def compare(
    project: Project, management_url: str | None = None, patience: float = 0.0, *, prune: bool = False
) -> Comparison:
    """Compare the project with its broker, without changing the broker.

    ``patience`` is the time in seconds to wait for an HTTP API that starts later than AMQP. If ``prune`` is True, the
    plan deletes managed objects that are no longer in topology.yaml. Raises BrokerUnreachable if no broker answers.
    """
    topology, consumed = project.topology, project.consumed
    try:
        management, live = connect(project, management_url, patience)
        with_policies = management.may_set_policies()
    except ManagementError as error:
        declare(project.config.broker.url, Objects())  # raises BrokerUnreachable if no broker answers
        objects = compile_topology(topology, consumed, with_policies=False)
        version = version_at(look(project.config.broker.url, [])[0])
        what = (
            f"arguments, bindings and policies of {len(objects.exchanges)} exchanges and {len(objects.queues)} queues"
        )
        uncompared = (f"{what}: {error}", *_no_policies(project, objects, Live(version=version)))
        warnings = tuple(_timeout_warnings(project, objects, None))
        return Comparison(project, objects, Plan(uncompared=uncompared, warnings=warnings))
    timeouts = acknowledgement_times(project.config.services)
    objects = compile_topology(
        topology, consumed, with_policies=with_policies, version=live.version or None, timeouts=timeouts
    )
    objects = with_longer_timeouts(objects, live, topology)
    plan = make_plan(objects, live, topology.retire, prune=prune)
    if names := uncounted(plan, objects, live, is_sure=prune):
        live = counted_by_queues(live, project.config.broker.url, names)
        plan = make_plan(objects, live, topology.retire, prune=prune)
    found = list(conflicts(objects, live, topology)) if live.version else []
    lines = {id(one): f"{project.topology_line(one.path)}: {one.text}" for one in found}
    stopping = {id(one) for one in found if one.is_of(plan.changes)}
    warnings = (
        *plan.warnings,
        *(line for key, line in lines.items() if key not in stopping),
        *(f"{project.topology_line(path)}: {text}" for path, text in missing(live, topology.retire)),
        *_timeout_warnings(project, objects, live.version if with_policies else None),
    )
    problems = tuple(line for key, line in lines.items() if key in stopping)
    plan = replace(plan, warnings=warnings, problems=problems)
    if not with_policies:
        plan = replace(plan, uncompared=tuple(_no_policies(project, objects, live)))
    return Comparison(project, objects, plan, live, management)


def connect(project: Project, url: str | None, patience: float = 0.0) -> tuple[Management, Live]:
    """Return the first HTTP API that answers at any of the broker's addresses, and the objects that it reports.

    ``url`` is the URL of the HTTP API if config.yaml does not set the URL. Raises ManagementError if no HTTP API
    answers.
    """
    deadline = time.monotonic() + patience
    while True:
        problem: ManagementError | None = None
        for broker_url in project.config.broker.url:
            management = Management(broker_url, project.config.broker.management or url)
            try:
                return management, management.live()
            except ManagementError as error:
                problem = problem or error
        if problem is None or problem.status or problem.is_failure or time.monotonic() >= deadline:
            raise problem or ManagementError("no address")
        time.sleep(0.1)


def _timeout_warnings(project: Project, objects: Objects, version: Version | None) -> Iterator[str]:
    """Yield a warning for each service that may exceed a consumer timeout, if no policy can raise the timeout.

    ``version`` is None if no policies can be set.
    """
    if not consumer_timeout(0, version):
        policies = Policies(objects.policies, version)
        said = {one.name for one in objects.queues if CONSUMER_TIMEOUT_KEY in policies.settings_of(one)}
        for name, service in project.config.services.items():
            if not said.issuperset(service.consumes) and (text := short_consumer_timeout(name, service)):
                place = f"config.yaml:{project.config_document.line(('services', name, 'handler_timeout'))}"
                yield f"{place}: {text}"


def _no_policies(project: Project, objects: Objects, live: Live) -> list[str]:
    """Return a line for each setting that is missing because no policies can be set on the broker."""
    wanted = compile_topology(project.topology, project.consumed, version=live.version or None)
    unlimited = at_default_limit(objects, wanted, live)
    return [
        f"{project.topology_line(('policies', name))}: policy {name!r}: not set; a policy needs RabbitMQ's HTTP API"
        " and a user with the policymaker tag"
        for name in project.topology.policies
    ] + [f"{project.topology_line(path_of(queue, project.topology))}: {line}" for queue, line in unlimited]


def reconcile(
    comparison: Comparison,
    decision: Decision,
    say: Callable[[str], None],
    did: Callable[[Change], None] = lambda _: None,
    denied: Callable[[], None] = lambda: None,
) -> list[Left]:
    """Apply the selected changes. Return the remaining changes with their requirements.

    ``denied`` is called if the user lacks the permission to declare objects, for example because the user has only one
    service's permissions.

    ``did`` is called with each change after it is made. Raises BrokerUnreachable, and DeclarationRefused if the broker
    refuses an object. Changes that were made before the error are kept.
    """
    plan, urls = comparison.plan, comparison.project.config.broker.url
    if plan.problems:
        raise DeclarationRefused("\n".join(plan.problems))
    if comparison.live is None or comparison.management is None:
        if _declare_blindly(comparison, say):
            denied()
        return []
    admin = Administrator(urls, comparison.management, say)
    try:
        return apply(decision, comparison.live, admin, say, did)
    except ManagementError as error:
        raise (BrokerUnreachable if error.is_failure or not error.status else DeclarationRefused)(str(error)) from None


def _declare_blindly(comparison: Comparison, say: Callable[[str], None]) -> bool:
    """Declare the objects through AMQP, which refuses differing objects. Return True if the user lacks permissions."""
    objects, urls = comparison.objects, comparison.project.config.broker.url
    if unmoved := _unmoved(comparison):
        raise DeclarationRefused("\n".join(unmoved))
    written = tuple(one for one in objects.queues if one.name not in objects.generated)
    refusals = declare(urls, Objects(objects.exchanges, written))
    # If the broker refuses an exchange or a queue, its bindings and retry queues are not declared either.
    held = {
        ("queue" if isinstance(one.thing, Queue) else "exchange", one.thing.name)
        for one in refusals
        if not isinstance(one.thing, Binding) and not one.is_denied and not one.may_be_policy
    }
    parts = {step: name for name, retry in objects.retry_delays.items() for _, step in retry.steps}
    owners: dict[str, list[str]] = {}
    for name, retry in objects.retry_delays.items():
        owners.setdefault(retry.dead_letter, []).append(name)
    generated = [
        one
        for one in objects.queues
        if one.name in objects.generated
        and ("queue", parts.get(one.name, "")) not in held
        and not all(("queue", owner) in held for owner in owners.get(one.name, ("",)))
    ]
    bindings = [
        one
        for one in objects.bindings
        if not {("exchange", one.source), (one.destination_type, one.destination)} & held
    ]
    refusals += declare(urls, Objects((), tuple(generated), tuple(bindings)))
    lines, denied = [], []
    for refusal in refusals:
        line = f"{comparison.place_of(refusal.thing)}: {refusal.line}"
        if refusal.is_denied:
            denied.append(refusal.thing)
        elif refusal.may_be_policy:
            say(f"not compared: {line}")
        else:
            lines.append(line)
    if denied:
        # A user with minimal permissions uses objects that another user has declared.
        what = f"{len(denied)} exchanges, queues and bindings"
        say(f"not declared: {what}, for which this user lacks the permission; these objects must already exist")
    if lines:
        raise DeclarationRefused("\n".join(lines))
    wanted: list[Exchange | Queue] = [*objects.exchanges, *objects.queues]
    names = {(type(one), one.name) for one in denied if isinstance(one, Exchange | Queue)}
    return all((type(one), one.name) in names for one in wanted)


def _unmoved(comparison: Comparison) -> list[str]:
    """Return a line for each queue that still has its old name. Two bound queues would each get every message."""
    formerly, lines = comparison.objects.formerly, []
    for new, old in formerly.items():
        with suppress(BrokerRefused):  # the user may have minimal permissions
            if look(comparison.project.config.broker.url, [old])[1][old] is not None:
                place = comparison.project.topology_line(("queues", new, "formerly"))
                remedy = "enable rabbitmq_management, or remove the key 'formerly'"
                lines.append(
                    f"{place}: queue {old!r} cannot be renamed to {new!r} without RabbitMQ's HTTP API; {remedy}"
                )
    return lines
