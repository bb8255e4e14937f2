"""The responses of the order API, requested without a network."""

import json
import logging
import socket
import threading
import uuid
from concurrent.futures import CancelledError, Future
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from werkzeug.test import Client

from plugins.order_api import Options
from plugins.order_api.api import create_app, describe
from runner import BrokerBlocked, BrokerUnreachable, ConfirmTimeout, PublishRefused, Unroutable
from runner.http.request_checks import AllowedHosts, RequestChecks
from runner.strict_json import decode_json

GOOD = {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}


class Context:
    """A context that publishes into a list. ``outcome`` is the broker's response."""

    service = "order_api"
    stop_timeout = 6.0
    slot = "order_api.1"
    has_history = False

    def __init__(self) -> None:
        self.log = logging.getLogger("test.order_api")
        self.published: list[Any] = []
        self.outcome = None
        self.problem = None
        self.stopping = threading.Event()

    def publish(self, event):
        event.encoded()
        self.published.append(event)
        future: Future[None] = Future()
        if isinstance(self.outcome, BaseException):
            future.set_exception(self.outcome)
        elif self.outcome is None:
            future.set_result(None)
        return future

    def ready(self, status="", *, needs_broker=True):
        pass

    def listen(self, host: str, port: int) -> socket.socket:
        raise AssertionError("nothing listens here")

    @property
    def store(self):
        raise AssertionError("nothing is kept here")

    @property
    def outbox(self):
        raise AssertionError("nothing waits here")

    def order_history(self, order_id):
        return None

    def routed(self, event):
        return event

    def broker_problem(self):
        return self.problem

    def wait_stop(self, timeout=None):
        return self.stopping.wait(timeout)


@pytest.fixture
def context():
    return Context()


def client_of(context, **options) -> Client:
    """Return a client of the application, without a network."""
    chosen = Options(**options)
    hosts = AllowedHosts(chosen.allowed_hosts, chosen.host)
    return Client(RequestChecks(create_app(chosen, context), hosts, context.log))


@pytest.fixture
def client(context):
    return client_of(context)


def conforms(answer, method, path) -> None:
    """Assert that the response conforms to the API's own description."""
    document = describe()
    responses = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses
    response = responses[str(answer.status_code)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][answer.content_type]["schema"]
    jsonschema.validate(
        json.loads(answer.data),
        {**schema, "components": document["components"]},
        format_checker=jsonschema.FormatChecker(),
    )
    assert set(response.get("headers", ())) <= set(answer.headers.keys())


def refusal(answer, status, *, path="/orders", method="post") -> Any:
    conforms(answer, method, path)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem["status"] == status
    return problem


def post(client, body=GOOD, **more) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    # Unlike HTTP clients, the test client gives an empty body no length.
    length = {"CONTENT_LENGTH": str(len(data))}
    return client.post("/orders", data=data, environ_overrides=length, **{"content_type": "application/json", **more})


def test_a_good_order_is_accepted_and_published(client, context, caplog):
    caplog.set_level(logging.INFO)
    answer = post(client, {**GOOD, "region": "emea"})
    conforms(answer, "post", "/orders")
    assert answer.status_code == 202
    (event,) = context.published
    order_id = event.body["order_id"]
    assert answer.json == {"order_id": order_id, "status": "accepted", "event_id": event.id}
    assert answer.headers["Location"] == f"/orders/{order_id}"
    (line,) = caplog.records
    assert line.getMessage() == f"order {order_id} accepted: 149.99 USD for alice@example.com"
    assert line.order == order_id


def test_an_amount_given_as_a_number_never_becomes_a_float(client, context):
    assert post(client, b'{"customer_email":"a@example.com","amount":0.29,"currency":"eur"}').status_code == 202
    assert context.published[0].body["amount"] == "0.29"
    assert context.published[0].body["currency"] == "EUR"


def test_no_response_is_sent_before_the_broker_has_confirmed(client, context):
    confirm: Future[None] = Future()
    asked = threading.Event()

    def publish(event):
        asked.set()
        return confirm

    context.publish = publish
    answers = []
    caller = threading.Thread(target=lambda: answers.append(post(client)))
    caller.start()
    assert asked.wait(5)
    assert not answers
    confirm.set_result(None)
    caller.join(5)
    assert answers[0].status_code == 202


def test_the_same_idempotency_key_gives_the_same_order_and_event(client, context):
    answers = [post(client, headers={"Idempotency-Key": "once-1"}).json for _ in range(2)]
    assert answers[0] == answers[1]
    assert context.published[0].id == context.published[1].id
    assert post(client, headers={"Idempotency-Key": "once-2"}).json["order_id"] != answers[0]["order_id"]
    assert uuid.UUID(answers[0]["order_id"]).version == 5


@pytest.mark.parametrize("key", ["", "a" * 256, "caf\xe9", "a\tb", "a\x7fb"])
def test_an_unusable_idempotency_key_is_refused(client, context, key):
    assert "Idempotency-Key" in refusal(post(client, headers={"Idempotency-Key": key}), 400)["detail"]
    assert not context.published


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not usable JSON"),
        (b"amount=5", "not usable JSON"),
        (b"{", "not usable JSON"),
        (b"\xff\xff", "not usable JSON"),
        (b"\xef\xbb\xbf{}", "a byte order mark is not allowed; send UTF-8 without it"),
        ("{}".encode("utf-16"), "a byte order mark is not allowed; send UTF-8 without it"),
        (b'{"amount": NaN}', "NaN is not JSON"),
        (b'{"amount": -Infinity}', "-Infinity is not JSON"),
        (b'{"amount": 1, "amount": 2}', "duplicate key 'amount'"),
        (b"[" * 30_000 + b"]" * 30_000, "nested too deeply; allowed: 32 levels"),
        (b'{"amount": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b'{"amount": 1e99999999999999999999}', "not usable JSON"),
        (b"[]", "not a JSON object"),
        (b'"order"', "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(client, context, body, reason):
    assert reason in refusal(post(client, body), 400)["detail"]
    assert not context.published


def test_every_wrong_field_is_named_with_its_value(client, context):
    problem = refusal(post(client, {"amount": 1.999, "currency": "usd", "colour": "red"}), 422)
    by_field = {error["field"]: error for error in problem["errors"]}
    assert set(by_field) == {"customer_email", "amount", "colour"}
    assert by_field["customer_email"] == {"field": "customer_email", "message": "is required"}
    assert by_field["amount"]["value"] == "1.999"
    assert by_field["colour"]["value"] == "red"
    assert "allowed: customer_email, currency, amount, region" in by_field["colour"]["message"]
    assert not context.published


def test_a_huge_value_is_not_sent_back(client):
    problem = refusal(post(client, {**GOOD, "region": "x" * 5000}), 422)
    assert "value" not in problem["errors"][0]


def test_thousands_of_wrong_fields_give_a_short_response(client):
    problem = refusal(post(client, {**GOOD, **{f"f{number}": 1 for number in range(4000)}}), 422)
    assert len(problem["errors"]) == 50
    assert "and 3950 more" in problem["detail"]


def test_half_a_surrogate_pair_is_a_wrong_value_and_not_a_crash(client):
    for body in (
        b'{"customer_email":"\\ud800@example.com","amount":1,"currency":"USD"}',
        b'{"customer_email":"a@example.com","amount":1,"currency":"USD","\\udc00":"\\udc00"}',
    ):
        assert len(refusal(post(client, body), 422)["errors"]) == 1


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_refused(client, kind):
    assert "send application/json" in refusal(post(client, content_type=kind), 415)["detail"]


def test_a_content_type_may_name_its_character_set(client):
    assert post(client, content_type="application/json; charset=utf-8").status_code == 202


def test_an_encoded_body_is_refused(client):
    assert "Content-Encoding" in refusal(post(client, headers={"Content-Encoding": "gzip"}), 415)["detail"]


def test_a_body_without_a_length_is_refused(client):
    answer = client.open("/orders", method="POST", content_type="application/json")
    refusal(answer, 411)


@pytest.mark.parametrize("error", [BrokerUnreachable, BrokerBlocked, Unroutable, PublishRefused, ConfirmTimeout])
def test_an_order_that_the_broker_refuses_is_a_503_with_the_reason(client, context, error):
    context.outcome = error("the very reason")
    answer = post(client)
    assert "the very reason" in refusal(answer, 503)["detail"]
    assert int(answer.headers["Retry-After"]) > 0


def test_an_error_raised_by_publish_itself_is_also_a_503(client, context):
    def publish(event):
        raise BrokerUnreachable("connection lost")

    context.publish = publish
    assert "connection lost" in refusal(post(client), 503)["detail"]


def test_a_confirm_that_is_given_up_at_the_stop_is_a_503(client, context):
    context.outcome = CancelledError()
    assert refusal(post(client), 503)


def test_a_missing_confirm_is_a_503_after_a_bounded_wait(client, context, monkeypatch):
    monkeypatch.setattr("runner.http.flask_views.CONFIRM_SECONDS", 0.01)
    context.outcome = "never"
    assert "did not confirm within" in refusal(post(client), 503)["detail"]


def test_no_event_is_published_while_the_broker_is_known_to_be_unreachable(client, context):
    context.problem = "no connection to 127.0.0.1:5672"
    assert "no connection to 127.0.0.1:5672" in refusal(post(client), 503)["detail"]
    assert not context.published


def test_a_bug_is_a_500_without_details_and_is_logged_completely(client, context, caplog):
    context.outcome = RuntimeError("secret inside")
    answer = post(client)
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert b"secret" not in answer.data
    assert "secret inside" in caplog.text
    assert "Traceback" in caplog.text


def test_health_does_not_depend_on_the_broker(client, context):
    context.problem = "away"
    answer = client.get("/healthz")
    conforms(answer, "get", "/healthz")
    assert answer.status_code == 200


def test_readiness_shows_the_problem_of_the_broker(client, context):
    ready = client.get("/readyz")
    conforms(ready, "get", "/readyz")
    assert ready.status_code == 200
    context.problem = "memory alarm"
    assert refusal(client.get("/readyz"), 503, path="/readyz", method="get")["detail"] == "memory alarm"


def show(client, order_id) -> Any:
    return client.get(f"/orders/{order_id}")


def test_without_audit_an_order_cannot_be_read_and_the_response_names_the_remedy(client):
    problem = refusal(show(client, uuid.uuid4()), 501, path="/orders/{order_id}", method="get")
    assert problem["type"].endswith("/AuditOff")
    assert "audit: {consumes: [audit.events]}" in problem["detail"]


@pytest.mark.parametrize("path", ["/nothing", "/orders/", "/orders//x", "/static/x", "/%ff", "/orders/a/b"])
def test_an_unknown_url_is_a_404_problem(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_a_405_that_names_the_right_one(client, method):
    answer = client.open("/orders", method=method)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert json.loads(answer.data)["title"] == "Method Not Allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_this_machine_s_own_names_are_accepted_as_host(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost:8000, evil.example",
        "localhost@evil",
        "",
        "::1",
        "a b",
        "\xe9",
    ],
)
def test_a_foreign_host_is_refused(client, context, host):
    answer = client.post("/orders", json=GOOD, headers={"Host": host})
    refusal(answer, 400)
    assert not context.published


def test_other_hosts_are_accepted_if_configured(context):
    named = client_of(context, allowed_hosts=["shop.example"])
    assert named.get("/healthz", headers={"Host": "shop.example:8000"}).status_code == 200
    assert named.get("/healthz", headers={"Host": "other.example"}).status_code == 400
    open_to_all = client_of(context, allowed_hosts=["*"])
    assert open_to_all.get("/healthz", headers={"Host": "order-api:8000"}).status_code == 200
    assert open_to_all.get("/healthz", headers={"Host": ""}).status_code == 400


def test_a_refused_request_is_one_line_of_the_log(client, caplog):
    caplog.set_level(logging.INFO)
    client.get("/x%0d%0aorder 1 accepted%1b[31m")
    (line,) = caplog.records
    assert line.getMessage().isprintable()


def test_the_index_links_to_all_pages(client):
    answer = client.get("/")
    conforms(answer, "get", "/")
    for path in ("health", "readiness", "api"):
        assert client.get(answer.json["links"][path]).status_code == 200


def test_the_description_is_served_and_its_schemas_are_valid(client):
    answer = client.get("/openapi.json")
    assert answer.json == describe()
    for schema in describe()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", ()):
            jsonschema.validate(example, schema)


def test_every_url_and_method_is_described(context):
    app = create_app(Options(), context)
    served = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(path, method) for path, item in describe()["paths"].items() for method in item}


def test_the_described_examples_are_accepted(client):
    for example in describe()["components"]["schemas"]["Order"]["examples"]:
        assert post(client, example).status_code == 202


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["customer_email", "amount", "currency", "region", "other"])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.dictionaries(fields, json_values).map(json.dumps).map(str.encode)))
def test_no_body_breaks_the_service(body):
    context = Context()
    client = client_of(context)
    answer = post(client, body)
    assert answer.status_code in {202, 400, 422}
    conforms(answer, "post", "/orders")


@settings(max_examples=150, deadline=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_is_accepted_if_and_only_if_it_is_money(number):
    context = Context()
    client = client_of(context)
    answer = post(client, b'{"customer_email":"a@example.com","currency":"USD","amount":' + number.encode() + b"}")
    value = decode_json(number.encode())
    is_money = 0 < value <= 1_000_000 and Decimal(value) * 100 % 1 == 0
    assert answer.status_code == (202 if is_money else 422)
    if is_money:
        assert Decimal(context.published[0].body["amount"]) == value


@pytest.mark.parametrize(
    "options",
    [{"port": 65536}, {"port": "http"}, {"threads": 0}, {"host": ""}, {"allowed_hosts": [""]}, {"hots": "x"}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
