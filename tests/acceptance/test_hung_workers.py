"""Workers that live and do nothing: each is noticed, writes down where it hangs, and is replaced."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.jobs import publish, publish_all
from tests.machine import in_time
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner


def run(jobs: Project, vhost: Vhost, plugin: str, **settings: Any) -> Runner:
    """Run the jobs with a plugin and further keys of its service."""
    config = jobs.config()
    config["services"]["jobs"] |= settings
    jobs.set_config(config)
    jobs.plugin("jobs", plugin)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    return runner


def test_a_handler_that_takes_too_long_is_ended_with_its_stack_and_its_message_comes_again(
    jobs: Project, vhost: Vhost
) -> None:
    runner = run(
        jobs,
        vhost,
        """import os, time
from runner import hookimpl, Event

def wait_for_the_card_gateway():
    time.sleep(600)

@hookimpl
def handle(message):
    if not os.path.exists("hung"):
        open("hung", "w").close()
        wait_for_the_card_gateway()
    return Event("done", {})
""",
        handler_timeout="1s",
    )
    publish(vhost, "{}", message_id="m-1")
    runner.wait_for(
        r"jobs.1 +\| ERROR: a handler has been at message m-1 of jobs for 1\.\d s, over its handler_timeout"
    )
    runner.wait_for("jobs.1 +.* in wait_for_the_card_gateway")
    runner.wait_for("jobs.1 killed by SIGABRT, a handler has been at message m-1 .*: restarting now")
    wait_until(lambda: vhost.messages("done"), 10)
    assert runner.stop() == 0


def test_a_worker_whose_interpreter_is_held_is_ended(jobs: Project, vhost: Vhost) -> None:
    runner = run(
        jobs,
        vhost,
        """import os, re
from runner import hookimpl, Event

@hookimpl
def handle(message):
    if not os.path.exists("held"):
        open("held", "w").close()
        re.match("(a+)+$", "a" * 60 + "b")  # takes centuries, and lets no other thread run
    return Event("done", {})
""",
        watchdog="2s",
    )
    publish(vhost, "{}")
    runner.wait_for("jobs.1 gave no sign of life for 2 s: killed, its stacks follow", 15)
    runner.wait_for("jobs.1 killed by SIG(ABRT|KILL), gave no sign of life for 2 s: restarting now", 10)
    wait_until(lambda: vhost.messages("done"), 10)
    assert runner.stop() == 0


def test_a_worker_that_lost_its_consumer_is_ended(jobs: Project, vhost: Vhost) -> None:
    runner = run(
        jobs,
        vhost,
        """import gc, os
from runner import hookimpl, Event
from runner.amqp.consumer import Consumer

@hookimpl
def handle(message):
    if not os.path.exists("lost"):
        open("lost", "w").close()
        gc.unfreeze()  # only what is looked at for garbage can be found
        (consumer,) = [one for one in gc.get_objects() if type(one) is Consumer]
        cancel = lambda: [consumer.channel.basic_cancel(tag) for tag in list(consumer.channel.consumer_tags)]
        consumer._io.call(cancel)
    return Event("done", {})
""",
        watchdog="1s",
    )
    publish(vhost, "{}")
    runner.wait_for("jobs.1 killed by SIGABRT, lost its consumer: restarting now", 15)
    publish(vhost, "{}")
    wait_until(lambda: vhost.ready("done") >= 2, 10)
    assert runner.stop() == 0


def test_a_loop_of_its_own_that_no_longer_comes_round_is_ended(jobs: Project, vhost: Vhost) -> None:
    runner = run(
        jobs,
        vhost,
        """import os, time
from runner import hookimpl

@hookimpl
def handle(message): pass

def the_place_where_it_hangs():
    time.sleep(600)

@hookimpl
def run(context):
    context.ready("at work")
    while not context.wait_stop(0.1):
        if os.path.exists("hang"):
            os.unlink("hang")
            the_place_where_it_hangs()
""",
        watchdog="1s",
    )
    (jobs.folder / "hang").touch()
    runner.wait_for(r"jobs.1 +\| ERROR: its own loop has not come round for 1\.\d s")
    runner.wait_for("jobs.1 +.* in the_place_where_it_hangs")
    runner.wait_for(r"jobs.1 killed by SIGABRT, its own loop has not come round .*: restarting now")
    runner.pid_of("jobs.1", count=2)
    assert runner.stop() == 0


def test_a_slow_start_and_a_long_message_and_a_loop_that_only_waits_are_no_hang(jobs: Project, vhost: Vhost) -> None:
    runner = run(
        jobs,
        vhost,
        """import time
from runner import hookimpl, Event

@hookimpl
def start(options, context):
    context.wait_stop(0.1)  # a pause, and no loop
    time.sleep(2)

@hookimpl
def handle(message):
    time.sleep(2.5)
    return Event("done", {})

@hookimpl
def run(context):
    context.ready("at work")
    context.wait_stop()
""",
        watchdog="1s",
        handler_timeout="20s",
    )
    publish(vhost, "{}")
    wait_until(lambda: vhost.messages("done"), 10)
    assert "killed" not in runner.output
    assert runner.stop() == 0


def test_a_broker_that_is_away_is_no_reason_to_give_up_however_short_the_start_may_be(
    jobs: Project, mortal: Vhost
) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {"start_timeout": f"{in_time(2):.0f}s", "backoff": {"max": "500ms"}}
    jobs.set_config(config)
    jobs.plugin("jobs", "from runner import hookimpl\n@hookimpl\ndef handle(message): pass\n")
    runner = jobs.run(url=mortal.url)
    pid = runner.pid_of("jobs.1")
    mortal.rabbit.kill()
    os.kill(pid, 9)
    runner.wait_for("jobs.1 exit 75, the broker is away or not as declared", 20)
    runner.wait_for("jobs.1 WAITING for the broker", 20)
    assert "FATAL" not in runner.output
    assert runner.stop() == 0


def test_a_run_that_has_done_its_work_ends_and_others_may_depend_on_that(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["seed"] = {"publishes": {"work": ["job.x"]}, "restart": "on-failure"}
    config["services"]["jobs"]["depends_on"] = ["seed"]
    jobs.set_config(config)
    jobs.plugin(
        "seed",
        """from runner import hookimpl, Event

@hookimpl
def run(context):
    for number in range(3):
        context.publish(Event("job.x", {"number": number})).result()
    print("three published")
""",
    )
    jobs.plugin(
        "jobs",
        "from runner import hookimpl, Event\n@hookimpl\ndef handle(message): return Event('done', message.json())\n",
    )
    runner = jobs.run(url=vhost.url)
    runner.wait_for("seed.1 EXITED, done")
    runner.wait_for("everything is RUNNING")
    assert runner.output.index("three published") < runner.output.index("jobs.1 RUNNING")
    wait_until(lambda: vhost.ready("done") == 3, 10)
    assert runner.stop() == 0


def test_the_number_of_instances_follows_the_queue_and_says_why(jobs: Project, vhost: Vhost) -> None:
    runner = run(
        jobs,
        vhost,
        "import time\nfrom runner import hookimpl\n@hookimpl\ndef handle(message): time.sleep(0.02)\n",
        prefetch=1,
        autoscale={"min": 1, "max": 3, "messages_per_instance": 20, "up": "1s", "down": "2s"},
    )
    first = runner.pid_of("jobs.1")
    publish_all(vhost, {str(number): str(number) for number in range(300)})
    runner.wait_for(r"jobs scaled up from 1 to [23]: \d+ ready messages, 20 for each, for 1 s")
    runner.pid_of("jobs.2")
    runner.wait_for(r"jobs scaled down from [23] to [12]: \d+ ready messages, 20 for each, for 2 s", 60)
    runner.wait_for(r"jobs scaled down from [23] to 1", 60)
    runner.wait_for("jobs.2 stopped")
    assert not [line for line in runner.lines if "jobs.1 stopped" in line]
    assert os.path.exists(f"/proc/{first}")
    assert runner.stop() == 0


def test_a_failing_service_is_not_scaled(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {
        "autoscale": {"min": 1, "max": 3, "messages_per_instance": 1, "up": "0s"},
        "restart_limit": {"count": 3, "window": "60s"},
    }
    config["services"]["other"] = {"consumes": ["done"]}
    jobs.set_config(config)
    jobs.plugin("other", "from runner import hookimpl\n@hookimpl\ndef handle(message): pass\n")
    jobs.plugin("jobs", "from runner import hookimpl\n@hookimpl\ndef handle(message): __import__('os')._exit(1)\n")
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    for number in range(20):
        publish(vhost, str(number))
    runner.wait_for("jobs.1 FATAL", 30)
    before = runner.output.count("scaled")
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3)
    assert runner.output.count("scaled") == before
    assert runner.stop() == 1


def test_output_and_history_are_in_files_where_they_are_asked_for(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["runner"] = {"logs": {"max_size": "10kB", "keep": 2}}
    jobs.set_config(config)
    jobs.plugin(
        "jobs",
        "from runner import hookimpl\n@hookimpl\ndef handle(message):\n    [print('x' * 90) for _ in range(1000)]\n",
    )
    runner = jobs.run(url=vhost.url)
    os.kill(runner.pid_of("jobs.1"), 9)
    runner.pid_of("jobs.1", count=2)
    publish(vhost, "{}")
    wait_until(lambda: runner.output.count("x" * 90) >= 1000, 10)
    assert runner.stop() == 0
    log = jobs.folder / "var" / "log"
    assert sorted(path.name for path in log.iterdir()) == [
        "history.log", "jobs.1.log", "jobs.1.log.1", "jobs.1.log.2", "runner.log",
    ]  # fmt: skip
    assert all(path.stat().st_size <= 10_000 for path in log.iterdir())
    history = (log / "history.log").read_text()
    for words in ("WAITING -> STARTING", "STARTING -> RUNNING, pid", "RUNNING -> BACKOFF, pid", "killed by SIGKILL"):
        assert f"jobs.1 {words}" in history or words == "killed by SIGKILL"
    assert "killed by SIGKILL" in history
    assert "files taken over" not in (log / "runner.log").read_text()
