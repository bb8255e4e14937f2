"""Orders that the page posts: the shown command line posts the same orders, and a job can be stopped."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.dashboard.order_form import OrderApi, find_api
from runner.dashboard.order_post import OrderPost, PostJob, post_of, send_order
from runner.dashboard.page_action import InvalidField
from tests.ports import free_port
from tests.rabbit import wait_until

FORM = {"email": "alice@example.com", "amount": "149.90", "currency": "usd", "rate": "20", "seconds": "3"}
#: A curl that writes its arguments to a file of its own.
CURL = '#!/bin/sh\nfor one in "$@"; do printf "%s\\n" "$one"; done > "$OUT/$$"\n'


def run_in_shell(command: str, folder: Path) -> list[list[str]]:
    """Run a command line with a curl that does nothing. Return the arguments of each call."""
    for name, text in (("curl", CURL), ("sleep", "#!/bin/sh\nexit 0\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    (folder / "out").mkdir()
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "OUT": str(folder / "out")}
    subprocess.run(["sh", "-c", command], check=True, env=environment, timeout=60)
    return [path.read_text().splitlines() for path in (folder / "out").iterdir()]


def test_a_form_becomes_the_body_of_an_order_without_a_lost_digit() -> None:
    post = post_of(FORM, "http://127.0.0.1:8000", is_repeated=False)
    assert json.loads(post.body, parse_float=Decimal) == {
        "customer_email": "alice@example.com", "amount": Decimal("149.90"), "currency": "USD",
    }  # fmt: skip
    assert "149.90" in post.body
    assert post.count == 1


@pytest.mark.parametrize("email", ["alice@example.com", "o'neil@example.com", '"$(id)`id`"@x.com', "@file"])
def test_the_command_line_posts_the_same_order(tmp_path: Path, email: str) -> None:
    post = post_of({**FORM, "email": email}, "http://127.0.0.1:8000", is_repeated=False)
    assert run_in_shell(post.command, tmp_path) == [
        ["-sS", "-X", "POST", "http://127.0.0.1:8000/orders", "-H", "Content-Type: application/json", "-d", post.body]
    ]


def test_the_command_line_of_a_rate_posts_the_same_number_of_orders_at_the_same_rate(tmp_path: Path) -> None:
    post = post_of({**FORM, "rate": "4", "seconds": "5"}, "http://127.0.0.1:8000", is_repeated=True)
    assert "& sleep 0.25; done; wait)" in post.command
    calls = run_in_shell(post.command, tmp_path)
    assert (len(calls), post.count) == (20, 20)
    assert {call[-1] for call in calls} == {post.body}


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("email", "", "an e-mail address"),
        ("email", "a b@example.com", "an e-mail address"),
        ("amount", "1,50", "an amount, such as 149.99"),
        ("amount", "007", "an amount, such as 149.99"),
        ("amount", "1e9", "an amount, such as 149.99"),
        ("currency", "US$", "a currency code, such as USD"),
        ("rate", "51", "1 to 50"),
        ("rate", "0", "1 to 50"),
        ("seconds", "301", "1 to 300"),
        ("seconds", "\u0663", "1 to 300"),
    ],
)
def test_an_invalid_field_of_the_form_is_refused(field: str, value: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as raised:
        post_of({**FORM, field: value}, "http://127.0.0.1:8000", is_repeated=True)
    assert str(raised.value).startswith(f"{field}: not valid, ")
    assert str(raised.value).endswith(f"; allowed: {allowed}")


def finished(job: PostJob) -> dict[str, Any]:
    wait_until(lambda: not job.is_running, what="the end of the job")
    return job.as_json()


def test_a_job_posts_all_orders_and_counts_the_answers() -> None:
    answers = iter([(202, "202 ACCEPTED"), *[(503, "503 busy")] * 49])
    lock = threading.Lock()

    def send(_: OrderPost) -> tuple[int, str]:
        with lock:
            return next(answers)

    found = finished(PostJob("1", OrderPost("http://x", "{}", rate=50, seconds=1), send))
    assert found["lines"] == ["1 of 50 orders accepted, 49 not accepted", "49 x 503 busy"]
    assert (found["state"], found["exit_code"]) == ("failed", 1)


def test_a_stopped_job_posts_no_further_order() -> None:
    sent: list[OrderPost] = []
    is_first = threading.Event()

    def send(post: OrderPost) -> tuple[int, str]:
        sent.append(post)
        is_first.set()
        return 202, "202 ACCEPTED"

    # The next order would follow after a second.
    job = PostJob("1", OrderPost("http://x", "{}", rate=1, seconds=300), send)
    assert is_first.wait(20)
    job.interrupt()
    found = finished(job)
    assert len(sent) == 1
    assert (found["lines"], found["exit_code"]) == (["1 of 300 orders accepted, 0 not accepted"], 130)


def test_a_single_order_shows_the_answer() -> None:
    job = PostJob("1", OrderPost("http://x", "{}"), lambda _: (202, '202 ACCEPTED: {"order_id": "o1"}'))
    found = finished(job)
    assert (found["state"], found["lines"]) == ("done", ['202 ACCEPTED: {"order_id": "o1"}'])


@pytest.mark.parametrize(
    ("answer", "link"),
    [
        (
            '202 ACCEPTED: {"order_id": "398e5319-01"}',
            {"text": "Order 398e5319 accepted", "href": "/orders/398e5319-01"},
        ),
        ('202 ACCEPTED: {"order_id": "a/b?c"}', {"text": "Order a/b?c accepted", "href": "/orders/a%2Fb%3Fc"}),
        ('202 ACCEPTED: {"order_id": 7}', None),
        ("202 ACCEPTED: [1]", None),
        ("202 ACCEPTED", None),
    ],
)
def test_an_accepted_order_has_a_link_to_its_page(answer: str, link: dict[str, str] | None) -> None:
    assert finished(PostJob("1", OrderPost("http://x", "{}"), lambda _: (202, answer))).get("link") == link


def test_a_refused_order_has_no_link() -> None:
    job = PostJob("1", OrderPost("http://x", "{}"), lambda _: (422, '422 INVALID: {"order_id": "o1"}'))
    assert "link" not in finished(job)


def test_an_api_that_does_not_answer_is_reported() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert send_order(OrderPost(url, "{}")) == (0, f"{url}: no answer, Connection refused")


def slot(service: str, why: str, state: str = "RUNNING") -> dict[str, Any]:
    return {"service": service, "state": state, "why": why}


@pytest.mark.parametrize(
    ("slots", "api"),
    [
        ([slot("api", "listening on http://127.0.0.1:8000")], OrderApi("api", "http://127.0.0.1:8000")),
        ([slot("api", "listening on http://0.0.0.0:80; old")], OrderApi("api", "http://127.0.0.1:80")),
        ([slot("api", "listening on http://[::]:80")], OrderApi("api", "http://[::1]:80")),
        ([slot("api", "listening on http://127.0.0.1:8000", "STOPPING")], OrderApi("api", "")),
        # The page itself listens too, but publishes no event.
        ([slot("page", "listening on http://127.0.0.1:8080")], OrderApi("api", "")),
    ],
)
def test_the_order_api_is_the_service_that_listens_and_only_publishes(slots: Any, api: OrderApi) -> None:
    services = {
        "pay": SimpleNamespace(consumes=["q"], publishes={"x": ["y"]}),
        "page": SimpleNamespace(consumes=[], publishes={}),
        "api": SimpleNamespace(consumes=[], publishes={"x": ["y"]}),
    }
    project: Any = SimpleNamespace(config=SimpleNamespace(services=services))
    frame = {"slots": dict(enumerate(slots))}
    assert find_api(frame, project) == api
    del services["api"]
    assert find_api(frame, project) is None
