"""compose.yaml, Dockerfile and .env: Compose accepts them, and the containers keep their promises."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema import Draft202012Validator

from deploy.passwords import LOGINS
from runner.broker.container import IMAGE
from runner.config.project import load_project
from runner.config.value import parse_duration
from tests.compose.file import OURS, compose, environment_of, instructions, profile
from tests.running import ROOT

DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
SERVICES: dict[str, Any] = compose()["services"]
SPLIT, TOGETHER = profile(SERVICES, "split"), profile(SERVICES, "together")
#: Services that exit before others start.
ONCE = [
    name
    for one in SERVICES.values()
    for name, how in one.get("depends_on", {}).items()
    if how["condition"] == "service_completed_successfully"
]
LASTING = [name for name in SERVICES if name not in ONCE]
SECRET = re.compile(r"PASS|SECRET|TOKEN|COOKIE|CREDENTIAL|(^|_)KEY|_URL", re.IGNORECASE)


@cache
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "tests/compose/compose-spec.json").read_text()))


def problems(data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in schema().iter_errors(data)]


def passwords_in(text: str) -> list[str]:
    """Return texts that may be passwords: in an address, or after the name of a variable for a password."""
    addresses = re.findall(r"\w+://[^\s/@:]*:[^\s/@]+@", text)
    names = re.finditer(r"\b([A-Z_]*(?:PASS|SECRET|TOKEN|COOKIE)[A-Z_]*)\s*[:=]\s*(\S+)", text)
    values = [(one[1], one[2].strip("'\"")) for one in names]
    # A variable without a default contains no password.
    allowed = ("$$(", "-}")
    return addresses + [value for name, value in values if not (name.endswith("_FILE") or value.startswith(allowed))]


def test_compose_yaml_fits_the_compose_specification() -> None:
    schema().check_schema(schema().schema)
    assert problems(compose()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "rabbitmq", "imagee"), "rabbitmq"),
        (("services", "rabbitmq", "healthcheck", "intervall"), "5s"),
        (("services", "rabbitmq", "ports"), "5672:5672"),
        (("services", "runner", "read_only"), {"yes": True}),
        (("services", "runner", "depends_on", "rabbitmq", "condition"), "healthy"),
        (("services", "passwords", "cap_drop"), "ALL"),
        (("volums",), {}),
        (("volumes", "rabbitmq"), []),
    ],
)
def test_a_mistake_in_compose_yaml_is_found(path: tuple[str, ...], value: object) -> None:
    data = copy.deepcopy(compose())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert problems(data)


def test_without_a_profile_each_service_has_its_own_container() -> None:
    settings = dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if not line.startswith("#"))
    assert settings == {"COMPOSE_PROFILES": "split"}
    # A reader types these names: docker compose logs -f payment-service notification-service.
    assert {"order-service", "payment-service", "notification-service", "audit-service"} < set(SPLIT)


def test_each_service_of_config_yaml_runs_in_both_profiles() -> None:
    known = load_project(ROOT, {}).config.services
    run = {name: one["command"] for name, one in SPLIT.items() if name in OURS}
    assert all(command[0] == "run" and len(command) == 2 for command in run.values())
    assert sorted(command[1] for command in run.values()) == sorted(known)
    assert "command" not in TOGETHER["runner"]
    assert ("CMD", '["run"]') in DOCKERFILE
    assert [name for name in TOGETHER if name in OURS] == ["runner"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_only_the_rights_that_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged", False)
    # Our containers get their user from the Dockerfile.
    assert service.get("user", "root" if "build" not in service else None) in (None, "rabbitmq", "postgres")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    mounts = [mount for mount in service.get("volumes", []) if mount.startswith(".")]
    assert all(mount.endswith(":ro") for mount in mounts), "a container could write to this checkout"


@pytest.mark.parametrize("name", LASTING)
def test_a_permanent_container_is_checked_restarted_and_given_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert parse_duration(check["timeout"]) <= parse_duration(check["interval"])
    assert service["restart"] == "unless-stopped"
    assert parse_duration(service["stop_grace_period"]) >= 15


def test_a_container_that_exits_is_not_checked() -> None:
    assert ONCE
    for name in ONCE:
        assert SERVICES[name]["healthcheck"] == {"disable": True}
        assert "restart" not in SERVICES[name]


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_healthy_if_status_reports_so(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"] == ["CMD", "python", "-m", "runner", "status"]
    # Compose and an engine without Compose run the same check.
    (line,) = (rest for word, rest in DOCKERFILE if word == "HEALTHCHECK")
    options, _, command = line.partition(" CMD ")
    assert json.loads(command) == check["test"][1:]
    assert dict(option.removeprefix("--").split("=") for option in options.split()) == {
        key.replace("_", "-"): str(value) for key, value in check.items() if key != "test"
    }


@pytest.mark.parametrize("name", OURS)
def test_a_service_waits_for_a_healthy_broker_and_for_its_database(name: str) -> None:
    wanted = {"rabbitmq", "postgres"} if name in SPLIT else {"rabbitmq"}
    assert SERVICES[name]["depends_on"] == {one: {"condition": "service_healthy"} for one in wanted}
    for server in wanted:
        assert SERVICES[server]["depends_on"] == {"passwords": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", [name for name in OURS if name in SPLIT])
def test_each_split_service_uses_the_same_database(name: str) -> None:
    assert environment_of(SERVICES[name])["DATABASE_URL_FILE"] == "/run/database/url"
    assert "database-password:/run/database:ro" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_several_containers_of_a_service_handle_each_message_once(name: str, tmp_path: Path) -> None:
    variables = {key: value for key, value in environment_of(SERVICES[name]).items() if value is not None}
    values = {
        "RABBITMQ_URL_FILE": "amqp://rabbitmq/",
        "DATABASE_URL_FILE": "postgresql://postgres/shop",
        "DASHBOARD_TOKEN_FILE": "a token of this test",
    }
    for key in values.keys() & variables.keys():
        variables[key] = str(tmp_path / key)
        (tmp_path / key).write_text(values[key])
    config = load_project(ROOT, variables).config
    assert config.broker.url == ("amqp://rabbitmq/",)
    assert config.store.url == ("postgresql://postgres/shop" if name in SPLIT else "sqlite:///var/fastcommerce.db")
    assert config.services["payment"].inbox is not None
    assert config.services["notification"].inbox is not None


def test_the_page_has_a_token_and_its_address_names_the_published_port() -> None:
    (login,) = (one for one in LOGINS if one.variable == "DASHBOARD_TOKEN")
    pages = {name: one for name, one in SERVICES.items() if "127.0.0.1:8080:8080" in one.get("ports", [])}
    assert sorted(pages) == ["dashboard-service", "runner"]
    for service in pages.values():
        variables = environment_of(service)
        assert variables["DASHBOARD_TOKEN_FILE"] == f"{login.folder}/password"
        assert variables["DASHBOARD_HOST"] == "0.0.0.0"
        assert f"dashboard-token:{login.folder}:ro" in service["volumes"]
    assert urlsplit(login.address).netloc == "localhost:8080"
    assert f"dashboard-token:{login.folder}" in SERVICES["passwords"]["volumes"]
    assert login.variable in environment_of(SERVICES["passwords"])


SERVERS = [login for login in LOGINS if urlsplit(login.address).scheme != "http"]


@pytest.mark.parametrize("login", SERVERS, ids=lambda login: login.variable)
def test_a_server_and_the_services_have_the_same_login(login: Any) -> None:
    address = urlsplit(login.address)
    assert address.hostname in SERVICES
    server = SERVICES[str(address.hostname)]
    variables = environment_of(server)
    assert address.username in (variables.get("RABBITMQ_DEFAULT_USER"), variables.get("POSTGRES_USER"))
    if address.scheme == "postgresql":
        assert address.path == f"/{variables['POSTGRES_DB']}"
    (volume,) = (one for one in server["volumes"] if one.endswith(f":{login.folder}:ro"))
    made = SERVICES["passwords"]
    assert volume.removesuffix(":ro") in made["volumes"]
    assert login.variable in environment_of(made)
    assert f"{login.folder}/password" in str(server)


@pytest.mark.parametrize("file", ["compose.yaml", ".env", "Dockerfile", "config.yaml"])
def test_no_password_is_in_a_file(file: str) -> None:
    text = (ROOT / file).read_text()
    if file == "config.yaml":
        # RabbitMQ's default password, which it accepts only from this machine.
        text = text.replace("amqp://guest:guest@127.0.0.1:5672/", "")
    assert passwords_in(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "RABBITMQ_URL: amqp://guest:guest@rabbitmq:5672/",
        "DATABASE_URL=postgresql://shop:x@postgres/shop",
        "POSTGRES_PASSWORD: shop",
        "POSTGRES_PASSWORD=shop",
        "RABBITMQ_DEFAULT_PASS: 'guest'",
        'ENV RABBITMQ_ERLANG_COOKIE="x"',
        "API_TOKEN = abc",
    ],
)
def test_a_password_in_a_file_would_be_found(text: str) -> None:
    assert passwords_in(text)


@pytest.mark.parametrize("name", SERVICES)
def test_a_variable_with_a_secret_names_a_file_or_is_passed_on(name: str) -> None:
    for variable, value in environment_of(SERVICES[name]).items():
        if SECRET.search(variable):
            assert value is None or (variable.endswith("_FILE") and value.startswith("/run/")), variable


def test_images_are_pinned_to_the_same_minor_version_everywhere() -> None:
    images = {one["image"] for one in SERVICES.values() if "build" not in one}
    bases = {rest.split()[0] for word, rest in DOCKERFILE if word == "FROM"}
    assert len(bases) == 1
    for image in images | bases:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)*", image), image
    assert IMAGE in images


def test_every_volume_is_declared_and_used() -> None:
    used = {mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(compose()["volumes"])


def test_the_image_contains_all_parts_and_its_own_user() -> None:
    copied = [rest.split()[:-1] for word, rest in DOCKERFILE if word == "COPY" and "--from" not in rest]
    sources = {source for sources in copied for source in sources}
    assert sources == {
        "requirements.txt", "runner", "plugins", "deploy/passwords.py", "topology.yaml", "config.yaml",
    }  # fmt: skip
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {f"!{source.split('/')[0]}" for source in sources} == {line for line in ignored if line.startswith("!")}
    assert [rest for word, rest in DOCKERFILE if word == "USER"] == ["10001"]
    (made,) = (rest for word, rest in DOCKERFILE if word == "RUN" and "useradd" in rest)
    assert "--uid 10001" in made
    # A container could not write to a volume on a folder of another owner.
    for mount in ("/app/var", *(str(login.folder) for login in LOGINS)):
        assert mount in made
    tmpfs = {one for name in OURS for one in SERVICES[name]["tmpfs"]}
    assert tmpfs == {"/tmp", "/app/var:uid=10001,gid=10001"}


def test_all_packages_of_the_image_are_locked_including_those_for_postgresql() -> None:
    (installs,) = (rest for word, rest in DOCKERFILE if word == "RUN" and "requirements.txt" in rest)
    assert "--require-hashes" in installs
    assert re.search(r"^psycopg-binary==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


def test_the_commands_of_the_pages_name_services_and_profiles_that_exist() -> None:
    text = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("operations.md", "containers.md"))
    commands = re.findall(r"docker compose [^`#\n]*", text)
    assert len(commands) > 5
    for command in commands:
        words = command.split()
        named = {word for word in words if word in SERVICES or word.endswith("-service")}
        assert named <= set(SERVICES), command
        profiles = {words[place + 1] for place, word in enumerate(words) if word == "--profile"}
        assert profiles <= {"split", "together", '"*"'}, command
    assert yaml.safe_load((ROOT / "compose.yaml").read_text())["name"] == "fastcommerce"
