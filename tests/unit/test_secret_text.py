"""No password or token of a YAML file is shown, in whatever form it is written."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.dashboard.secret_text import hide_secrets

#: Each secret contains one of these words.
SECRETS = ("hunter", "4711")

LINES = [
    ("url: amqp://guest:hunter2@host:5672/", "url: amqp://guest:•••@host:5672/"),
    ("url: amqp://guest:hun/t{er@2@host:5672/", "url: amqp://guest:•••@host:5672/"),
    ('url: "${URL:-amqp://guest:hunter2@host/}"', 'url: "${URL:-amqp://guest:•••@host/}"'),
    ('url: "amqp://${NAME:-guest}:${PASSWORD}@host/"', 'url: "amqp://${NAME:-guest}:${PASSWORD}@host/"'),
    ('url: "host=db password=hunter2 port=1"', 'url: "host=db password=••• port=1"'),
    ("options: {smtp_password: hunter2, port: 1}", "options: {smtp_password: •••, port: 1}"),
    ("options: {smtp_password: 'hunter, 2}', port: 1}", "options: {smtp_password: '•••', port: 1}"),
    ("options: {tokens: [hunter, 4711], port: 1}", "options: {tokens: [•••, •••], port: 1}"),
    ("tokens: [[hunter, b], ['a]hunter']]", "tokens: [[•••, •••], ['•••']]"),
    ("options: {secret: {api_key: hunter2, pin: 4711}}", "options: {secret: {api_key: •••, pin: •••}}"),
    (
        "options: {a: {login_secret: {user: '}', pin: {a: 4711}}}}",
        "options: {a: {login_secret: {user: '•••', pin: {a: •••}}}}",
    ),
    ("options: {secret: {a: it's, b: {c: don't}, pin: 4711}}", "options: {secret: {a: •••, b: {c: •••}, pin: •••}}"),
    ("options: {credentials: {pin: '${PIN}'}, port: 1}", "options: {credentials: {pin: '${PIN}'}, port: 1}"),
    ('options: {"password":"hunter2", port: 1}', 'options: {"password":"•••", port: 1}'),
    ('{"options": {"secret":{"pin":"4711"}}}', '{"options": {"secret":{"pin":"•••"}}}'),
    ("options: {token_of: {}, tokens: [], token: ''}", "options: {token_of: {}, tokens: [], token: ''}"),
    ("secret: {api_key: hunter2, port: 1}", "secret: {api_key: •••, port: 1}"),
    ("a: {options: {x: 1}, token_shop: {consumes: [a]}}", "a: {options: {x: 1}, token_shop: {consumes: [a]}}"),
    ('token: "hunter2"', 'token: "•••"'),
    ('token: "#hunter \\" 2" # why', 'token: "•••" # why'),
    ("password: hunter 2 # why", "password: ••• # why"),
    ("password: $hunter,2}", "password: •••"),
    ("password: !!str hunter", "password: •••"),
    ("private_key : hunter2", "private_key : •••"),
    ('"password": hunter2', '"password": •••'),
    ("# password: hunter2", "# password: •••"),
    ("a: 1 # password: hunter2", "a: 1 # password: •••"),
    ('token: "${DASHBOARD_TOKEN:-}"', 'token: "${DASHBOARD_TOKEN:-}"'),
    ('token: "${DASHBOARD_TOKEN:-hunter2}"', 'token: "${DASHBOARD_TOKEN:-•••}"'),
    ('{token: "${DASHBOARD_TOKEN:-}"}', '{token: "${DASHBOARD_TOKEN:-}"}'),
    ("password: ${PASSWORD}", "password: ${PASSWORD}"),
    ("password: hunter${PASSWORD}", "password: •••"),
    ("latency: 50ms # no secret", "latency: 50ms # no secret"),
    ("key: token.created", "key: token.created"),
]


@pytest.mark.parametrize(("text", "shown"), LINES)
def test_a_line_contains_no_secret_but_the_names_of_variables(text: str, shown: str) -> None:
    assert hide_secrets([text]) == [shown]


TEXTS = [
    ("a:\n  password: |\n    hunter\n    a: 4711\n  b: 1", "a:\n  password: |\n    •••\n    •••\n  b: 1"),
    ("password:\n  hunter2\nb: 1", "password:\n  •••\nb: 1"),
    ("password: hunter\n  4711\nb: 1", "password: •••\n  •••\nb: 1"),
    ("tokens:\n- hunter\n- 4711\nb: 1", "tokens:\n- •••\n- •••\nb: 1"),
    ("tokens:\n-\n  hunter\nb: 1", "tokens:\n-\n  •••\nb: 1"),
    ("- tokens: # two\n    - hunter\n\n    - 4711\n  b: 1", "- tokens: # two\n    - •••\n\n    - •••\n  b: 1"),
    ('password: "hunter\n  4711"\nb: 1', 'password: "•••"\n  •••\nb: 1'),
    ("options:\n  credentials:\n    pin: 4711\n  b: 1", "options:\n  credentials:\n    pin: •••\n  b: 1"),
    ("options:\n# a\n  credentials:\n# b\n    pin: 4711", "options:\n# a\n  credentials:\n# b\n    pin: •••"),
    (
        "options:\n  tokens:\n  - pin: 4711\n    b: hunter\n  b: 1",
        "options:\n  tokens:\n  - pin: •••\n    b: •••\n  b: 1",
    ),
    ("options:\n  secret: &s\n    pin: 4711\n  b: 1", "options:\n  secret: &s\n    pin: •••\n  b: 1"),
    ("options:\n  secret: &a |\n    hunter\n  b: 1", "options:\n  secret: &a |\n    •••\n  b: 1"),
    ("a: &a hunter\nb: 1\npassword: *a", "a: •••\nb: 1\npassword: *a"),
    ("options:\n  secret: {pin: 4711,\n    b: hunter}\n  b: 1", "options:\n  secret: {pin: •••,\n    b: •••}\n  b: 1"),
    ("options: {secret: {pin: 4711,\n  b: hunter}}\nb: 1", "options: {secret: {pin: •••,\n  b: •••}}\nb: 1"),
    ("a: {options: {\n  secret: {b: hunter}}}\nc: 1", "a: {options: {\n  secret: {b: •••}}}\nc: 1"),
    ("options: {secret: {\npin: 4711}}", "options: {secret: {\npin: •••}}"),
    ("options:\n  secret: {pin: 4711, # }\n    b: hunter}", "options:\n  secret: {pin: •••, # }\n    b: •••}"),
    ('"options":\n  secret:\n    b: hunter', '"options":\n  secret:\n    b: •••'),
    ("a: 1\n---\ntoken: hunter", "a: 1\n---\ntoken: •••"),
    ("options:\n  a: 1\ntoken_shop:\n  b: 1", "options:\n  a: 1\ntoken_shop:\n  b: 1"),
    (
        "services: # with options: see below\n  tokens:\n    b: 1",
        "services: # with options: see below\n  tokens:\n    b: 1",
    ),
    ("token_service:\n  consumes: [a]\n  token: hunter", "token_service:\n  consumes: [a]\n  token: •••"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_a_secret_of_several_lines_is_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text.splitlines()) == shown.splitlines()


@pytest.mark.parametrize("text", [text for text, _ in [*LINES, *TEXTS]])
@pytest.mark.parametrize("error", ["]", "a: b: c", "\t- %"])
def test_a_file_with_an_error_shows_no_secret_either(text: str, error: str) -> None:
    with pytest.raises(yaml.YAMLError):
        list(yaml.compose_all(f"{text}\n{error}"))
    shown = "\n".join(hide_secrets([*text.splitlines(), error]))
    assert not any(secret in shown for secret in SECRETS)


_harmless = st.integers(0, 9).map(lambda number: f"plain-{number}")
_secret = st.sampled_from(["hunter2", "4711", "it's hunter", 'hunter "#: {', "hunter\nhunter 4711\n", "[hunter]"])


def _nested(leaves: st.SearchStrategy[Any], keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=3)

    return st.recursive(leaves, deeper, max_leaves=6)


@given(
    st.dictionaries(st.sampled_from(("a", "b c", "host")), _nested(_harmless, ("x", "y")), max_size=2),
    st.dictionaries(st.sampled_from(("token", "api_key", "b password")), _nested(_secret, ("x", "pin")), max_size=2),
    st.sampled_from([True, False, None]),
    st.sampled_from([20, 80]),
)
def test_no_form_of_yaml_shows_a_secret_or_hides_anything_else(
    harmless: dict[str, Any], secrets: dict[str, Any], is_flow: bool | None, width: int
) -> None:
    content = {"services": {"payment": {"options": {**harmless, **secrets}, "consumes": ["plain-1"]}}}
    text = yaml.safe_dump(content, default_flow_style=is_flow, width=width)
    shown = "\n".join(hide_secrets(text.splitlines()))
    assert not any(secret in shown for secret in SECRETS)
    assert shown.count("plain-") == text.count("plain-")
