"""A handler that exceeds the broker's consumer timeout: its message counts as crashing and is dead-lettered."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.jobs import publish, publish_all
from tests.proof import times
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project

pytestmark = pytest.mark.xdist_group("impatient broker")  # all tests of this module share a broker

#: Seconds until the broker's consumer timeout. RabbitMQ checks classic queues (up to 4.2 all queues) at each tick.
TIMEOUT = 2
CONFIGURATION = f"[{{rabbit, [{{consumer_timeout, {TIMEOUT * 1000}}}, {{channel_tick_interval, 300}}]}}].\n"
#: A handler that logs each message, and runs for the seconds that the message contains.
PLUGIN = """import time
from runner import Event, hookimpl

@hookimpl
def handle(message):
    with open("handled", "a") as file:
        file.write(message.id + "\\n")
    time.sleep(float(message.json()["seconds"]))
    return Event("done", {})
"""
BLAME = (
    r"jobs\.1 .*a handler has been processing message slow from jobs for \d+\.\d s,"
    r" longer than the broker's consumer_timeout"
)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    node = Rabbit(tmp_path_factory.mktemp("impatient") / "broker", CONFIGURATION)
    yield node
    node.stop()


@pytest.fixture
def shop(impatient: Rabbit, request: pytest.FixtureRequest) -> Iterator[Vhost]:
    one = impatient.make_vhost(f"test-{abs(hash(request.node.name)):x}")
    yield one
    one.delete()


def version_of(rabbit: Rabbit) -> tuple[int, ...]:
    version: str = rabbit.api("GET", "/overview")["rabbitmq_version"]
    return tuple(int(part) for part in version.split(".")[:2])


def hurry(jobs: Project, rabbit: Rabbit) -> None:
    """Set the broker's timeout for the queue, instead of the longer one that follows from the service's settings."""
    if version_of(rabbit) >= (3, 12):
        topology = jobs.topology()
        topology["queues"]["jobs"]["policy"] = {"consumer-timeout": TIMEOUT * 1000}
        jobs.set_topology(topology)


def begin(jobs: Project, shop: Vhost, kind: str, jobs_to_do: dict[str, float], **settings: object) -> None:
    hurry(jobs, shop.rabbit)
    topology = jobs.topology()
    topology["defaults"] = {"queue_type": kind}
    jobs.set_topology(topology)
    jobs.plugin("jobs", PLUGIN)
    config = jobs.config()
    config["services"]["jobs"] |= settings
    jobs.set_config(config)
    code, output = jobs.call("apply", url=shop.url)
    assert code == 0, output
    publish_all(shop, {name: f'{{"seconds": {seconds}}}' for name, seconds in jobs_to_do.items()})


def handled(jobs: Project) -> list[str]:
    return (jobs.folder / "handled").read_text().split()


def wait_with_traffic(shop: Vhost, is_done: Callable[[], object]) -> None:
    """Wait while another message arrives every few seconds, as in a queue that is in use.

    RabbitMQ 4.3.6 sometimes never checks the consumer timeout of a queue without any traffic. If its clients were slow
    at that time, one of ten such queues was not checked for 5 minutes.
    """
    deadline, number = time.monotonic() + 90, 0
    while not is_done():
        assert time.monotonic() < deadline, "the slow message is not dead-lettered within 90 s"
        publish(shop, '{"seconds": 0}', message_id=f"further-{number}")
        number += 1
        with contextlib.suppress(AssertionError):
            wait_until(is_done, 4)


#: The type of the queue, the seconds of the handler, and settings of the service.
CASES: dict[str, tuple[str, float, dict[str, int]]] = {
    "hangs": ("quorum", 600, {"max_crashes": 2}),
    # RabbitMQ 4.3 may check a queue some seconds late.
    "would end a little later": ("quorum", TIMEOUT + 13, {"max_crashes": 1}),
    "three times": ("quorum", 600, {}),
    "beside others": ("quorum", 600, {"concurrency": 2}),
    "without prefetch": ("quorum", 600, {"prefetch": 1, "max_crashes": 2}),
    "classic queue": ("classic", 600, {"max_crashes": 2}),
}


@pytest.mark.parametrize(("kind", "seconds", "settings"), [*CASES.values()][: times(2, len(CASES))])
def test_a_message_over_the_timeout_is_dead_lettered_and_the_others_are_handled(
    jobs: Project, impatient: Rabbit, shop: Vhost, kind: str, seconds: float, settings: dict[str, int]
) -> None:
    if kind == "classic" and version_of(impatient) >= (4, 3):
        pytest.skip("from 4.3 on RabbitMQ waits without a limit for the ack of a classic queue's delivery")
    deaths = settings.get("max_crashes", 3)
    good = {f"good-{number}": 0.0 for number in range(10)}
    begin(jobs, shop, kind, {**good, "slow": seconds, "last": 0.0}, **{"prefetch": 20} | settings)
    runner = jobs.run(url=shop.url)
    wait_with_traffic(shop, lambda: re.search(r"message slow: .* dead-lettered to jobs\.dlq", runner.output))
    wait_until(lambda: shop.ready("jobs.dlq"), 20, "the slow message is dead-lettered")
    (dead_letter,) = shop.messages("jobs.dlq")
    wait_until(lambda: {*good, "last"} <= set(handled(jobs)), 20, "the others are handled")
    runner.wait_for(BLAME)
    headers = dead_letter["properties"]["headers"]
    assert dead_letter["properties"]["message_id"] == "slow"
    # If several messages are in flight, a crash blames none of them alone.
    assert headers["x-crashes"] == deaths or (deaths < headers["x-crashes"] and "concurrency" in settings)
    assert "longer than the broker's consumer_timeout" in headers["x-last-error"]
    assert handled(jobs).count("slow") == headers["x-crashes"], "no more often than max_crashes allows"
    assert shop.ready("jobs.dlq") == 1
    assert "FATAL" not in runner.output
    assert "declaring the topology again" not in runner.output
    assert runner.stop() == 0


def test_messages_that_only_waited_over_the_timeout_are_all_handled(jobs: Project, shop: Vhost) -> None:
    todo = {f"job-{number}": 0.5 for number in range(8)}
    begin(jobs, shop, "quorum", todo, prefetch=20)
    runner = jobs.run(url=shop.url)
    wait_until(lambda: set(handled(jobs)) == set(todo) if (jobs.folder / "handled").exists() else None, 60, "all done")
    wait_until(lambda: shop.ready("done") >= len(todo), 20, "each has its event")
    assert shop.ready("jobs.dlq") == 0
    assert "consumer_timeout" not in runner.output
    assert "in hand" not in runner.output
    assert runner.stop() == 0


def test_a_queue_that_is_deleted_during_a_long_handler_is_declared_again_and_its_message_not_blamed(
    jobs: Project, shop: Vhost
) -> None:
    begin(jobs, shop, "quorum", {"slow": 1.5}, prefetch=20)
    runner = jobs.run(url=shop.url)
    wait_until((jobs.folder / "handled").exists, 20, "it is being handled")
    shop.delete_queue("jobs")
    runner.wait_for("NOT_FOUND - no queue 'jobs' .*declaring the topology again")
    wait_until(lambda: "jobs" in shop.queues(), 20, "it is declared again")
    publish(shop, '{"seconds": 0}', message_id="next")
    wait_until(lambda: "next" in handled(jobs), 20, "and consumed")
    assert "consumer_timeout" not in runner.output
    assert runner.stop() == 0
