"""No password or token of a YAML file is shown, in whatever form it is written."""

from __future__ import annotations

import pytest

from runner.dashboard.secret_text import hide_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("url: amqp://guest:hunter2@host:5672/", "url: amqp://guest:•••@host:5672/"),
        ("url: amqp://guest:hun/t{er@2@host:5672/", "url: amqp://guest:•••@host:5672/"),
        ('url: "${URL:-amqp://guest:hunter2@host/}"', 'url: "${URL:-amqp://guest:•••@host/}"'),
        ('url: "amqp://${NAME:-guest}:${PASSWORD}@host/"', 'url: "amqp://${NAME:-guest}:${PASSWORD}@host/"'),
        ('url: "host=db password=hunter2 port=1"', 'url: "host=db password=••• port=1"'),
        ("options: {smtp_password: hunter2, port: 1}", "options: {smtp_password: •••, port: 1}"),
        ("options: {smtp_password: 'hunter, 2}', port: 1}", "options: {smtp_password: '•••', port: 1}"),
        ("options: {tokens: [hunter, 2], port: 1}", "options: {tokens: [•••], port: 1}"),
        ("options: {secret: {api_key: hunter2, port: 1}}", "options: {secret: {•••}}"),
        ("secret: {api_key: hunter2, port: 1}", "secret: {api_key: •••, port: 1}"),
        (
            "options: {a: {login_secret: {user: '}', pin: {a: 2}}}, port: 1}",
            "options: {a: {login_secret: {•••}}, port: 1}",
        ),
        ("options: {credentials: {pin: ${PIN}}, port: 1}", "options: {credentials: {•••}, port: 1}"),
        ('token: "hunter2"', 'token: "•••"'),
        ('token: "#hunter \\" 2" # why', 'token: "•••" # why'),
        ("password: hunter 2 # why", "password: ••• # why"),
        ("password: $hunter,2}", "password: •••"),
        ("private_key : hunter2", "private_key : •••"),
        ('"password": hunter2', '"password": •••'),
        ("# password: hunter2", "# password: •••"),
        ('token: "${DASHBOARD_TOKEN:-}"', 'token: "${DASHBOARD_TOKEN:-}"'),
        ('token: "${DASHBOARD_TOKEN:-hunter2}"', 'token: "${DASHBOARD_TOKEN:-•••}"'),
        ('{token: "${DASHBOARD_TOKEN:-}"}', '{token: "${DASHBOARD_TOKEN:-}"}'),
        ("password: ${PASSWORD}", "password: ${PASSWORD}"),
        ("password: hunter${PASSWORD}", "password: •••"),
        ("latency: 50ms # no secret", "latency: 50ms # no secret"),
        ("key: token.created", "key: token.created"),
    ],
)
def test_a_line_contains_no_secret_but_the_names_of_variables(text: str, shown: str) -> None:
    assert hide_secrets([text]) == [shown]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a:\n  password: |\n    hunter\n    a: 2\n  b: 1", "a:\n  password: |\n    •••\n    •••\n  b: 1"),
        ("password:\n  hunter2\nb: 1", "password:\n  •••\nb: 1"),
        ("tokens:\n- hunter\n- 2\nb: 1", "tokens:\n•••\n•••\nb: 1"),
        ("- tokens: # two\n    - hunter\n\n    - 2\n  b: 1", "- tokens: # two\n    •••\n\n    •••\n  b: 1"),
        ('password: "hunter\n  2"\nb: 1', 'password: "•••"\n  •••\nb: 1'),
        (
            "options:\n  credentials:\n    user: joe\n\n    pin: 2\n  b: 1",
            "options:\n  credentials:\n    •••\n\n    •••\n  b: 1",
        ),
        ("options:\n  tokens:\n  - pin: 2\n    b: 1\n  b: 1", "options:\n  tokens:\n  •••\n    •••\n  b: 1"),
        ("options:\n  secret: {pin: 2,\n    b: 1}\n  b: 1", "options:\n  secret: {•••}\n    •••\n  b: 1"),
        ("options: {secret: {pin: 2,\n  b: 1}}\nb: 1", "options: {secret: {•••}\n  •••\nb: 1"),
        ('"options":\n  secret:\n    b: 1', '"options":\n  secret:\n    •••'),
        ("a: {options: {\n  secret: {b: 1}}}\nc: 1", "a: {options: {\n  secret: {•••}}}\nc: 1"),
        ("options:\n  a: 1\ntoken_shop:\n  b: 1", "options:\n  a: 1\ntoken_shop:\n  b: 1"),
        ("token_service:\n  consumes: [a]\n  token: hunter", "token_service:\n  consumes: [a]\n  token: •••"),
    ],
)
def test_a_secret_of_several_lines_is_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text.splitlines()) == shown.splitlines()
