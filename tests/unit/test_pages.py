"""README.md and docs/*.md: links, samples and commands are valid, and every page names its readers."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import yaml
from click.testing import CliRunner

from runner.cli.main import HEADINGS, main
from runner.config.config_file import Config
from runner.config.document import Document
from runner.config.project import load_project
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.topology.compile import compile_topology
from tests import command_page
from tests.running import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))
READERS = ("learners", "teachers", "plugin authors", "operators", "contributors", "everyone")
LANGUAGES = {"", "html", "ini", "json", "python", "sh", "toml", "yaml"}
#: The beginning of a command line of the program, in a line of a sample or in code inside a sentence.
COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:runuser -u \S+ -- )?"
    r"(?P<program>(?:[\w./-]*/)?fastcommerce|(?:\S*/)?python3? -m runner)(?=$| (?! ))"
)

named = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and text of each sample of a page."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)) for indent, language, text in found]


def prose(page: Path) -> str:
    """Return a page without its samples."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub and the site derive from the headings of a page."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w -]", "", shown.lower()).strip().replace(" ", "-")
        count = sum(1 for one in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", one))
        found.add(f"{anchor}-{count}" if count else anchor)
    return frozenset(found)


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob(".github/*.md"), ROOT / "CHANGELOG.md"], ids=lambda page: page.name
)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "code", prose(page)))
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@named
def test_every_sample_is_valid_in_its_language(page: Path) -> None:
    for language, text in blocks(page):
        assert language in LANGUAGES, language
        if language == "yaml":
            list(yaml.safe_load_all(text))
        elif language == "json":
            json.loads(text)
        elif language == "toml":
            tomllib.loads(text)
        elif language == "python":
            ast.parse(text)
        elif language == "sh":
            done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        elif language == "ini":
            configparser.ConfigParser(strict=False).read_string(text)


@named
def test_every_part_of_a_file_has_the_keys_of_that_file(page: Path) -> None:
    if page.name in ("configuration.md", "containers.md"):
        return  # excluded here: a sample with its own test, and a file of Docker Compose
    for language, text in blocks(page):
        if language != "yaml":
            continue
        marks = r"^# (config|topology)\.yaml(?:, under (\w+))?:?\n(.*?)(?=^# (?:config|topology)\.yaml|\Z)"
        parts = re.findall(marks, text, re.MULTILINE | re.DOTALL)
        assert parts, f"no line such as '# config.yaml' in {text!r}"
        for name, key, body in parts:
            environment = {"RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:5672/"}
            document = Document(f"{name}.yaml", f"{key}:\n{body}" if key else body, environment)
            models: dict[str, type[Config | Topology]] = {"config": Config, "topology": Topology}
            validate_document(models[name], document)
            assert document.faults == []


def command_lines(page: Path) -> Iterator[str]:
    """Yield the command lines that a page shows to its readers."""
    text = page.read_text("utf-8")
    for _, sample in blocks(page):
        yield from (line for line in sample.replace("\\\n", " ").splitlines() if COMMAND.match(line))
    yield from (code for code in re.findall(r"`([^`\n]+)`", prose(page)) if COMMAND.match(code))
    yield from (f"fastcommerce {found}" for found in re.findall(r"docker compose exec \S+ python -m runner (.*)", text))


def parsed(words: list[str], command: click.Command = main, name: str = "fastcommerce") -> None:
    """Parse a command line as the program does, without running it. Raises click.UsageError."""
    context = command.make_context(name, list(words))
    with context:
        rest = [*context._protected_args, *context.args]
        if isinstance(command, click.Group) and rest:
            found, sub, arguments = command.resolve_command(context, rest)
            assert sub is not None
            if arguments or not isinstance(sub, click.Group):
                parsed(arguments, sub, found or "")


@named
def test_every_command_has_the_arguments_and_options_of_the_program(page: Path) -> None:
    for line in command_lines(page):
        if "…" in line or "[OPTIONS]" in line:
            continue
        start = COMMAND.match(line)
        assert start is not None
        # Many systems have no python on the PATH, and their python3 lacks the packages.
        if page.name not in ("containers.md", "architecture.md"):
            program = start["program"]
            assert program in ("fastcommerce", ".venv/bin/python -m runner") or program.endswith("/bin/fastcommerce"), (
                line
            )
        words = shlex.split(line[start.end() :], comments=True)
        stop = next((place for place, word in enumerate(words) if word in ("|", ">", "<", "&&", ";")), len(words))
        words = words[:stop]
        if words and words[-1] in ("--help", "--version"):
            words.pop()
        try:
            parsed(words)
        except click.UsageError as error:
            # A sample may name a file of the reader, and a sentence may name a command without its arguments.
            missing = isinstance(error, click.MissingParameter) and not line.startswith("$")
            if not missing and "does not exist" not in error.message:
                pytest.fail(f"{line}: {error.message}")


@named
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_begins_with_one_line_that_names_its_readers(page: Path) -> None:
    if page.name in ("architecture.md", "tour.md"):
        return  # pages about the code, for developers
    _, line, rest = page.read_text("utf-8").split("\n\n", 2)
    assert re.fullmatch(r"\*For [^\n]+\.\*", line), line
    assert any(reader in line for reader in READERS)
    assert rest


def test_the_index_lists_each_page_once() -> None:
    listed = re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\): ", (DOCS / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in PAGES[1:] if page.name != "README.md")


def test_each_entry_of_the_glossary_begins_with_its_terms() -> None:
    entries = re.findall(r"^- (.*)$", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert len(entries) > 40
    assert [entry for entry in entries if not re.match(r"\*\*[a-z][^*]*\*\*: [A-Z`*]", entry)] == []


def test_the_readme_is_short_and_has_its_chapters_in_order() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Quick start", "The two files", "Write a service", "What you get", "Supported versions", "Licence",
    ]  # fmt: skip
    for command in ("make run", "make test", "make test-matrix", ".venv/bin/python -m runner"):
        assert f"`{command}`" in text or f"\n{command}" in text
    benefits = text.partition("## What you get")[2].partition("\n## ")[0]
    assert len(re.findall(r"^- ", benefits, re.MULTILINE)) == 9


def test_the_files_in_the_readme_agree_with_the_shipped_files() -> None:
    chapter = README.read_text("utf-8").partition("## The two files")[2].partition("\n## ")[0]
    shipped = {name: yaml.safe_load((ROOT / name).read_text()) for name in ("topology.yaml", "config.yaml")}
    (sample,) = re.findall(r"```yaml\n(.*?)```", chapter, re.DOTALL)
    parts = re.findall(r"# (\w+\.yaml)\n(.*?)(?=^# |\Z)", sample, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in parts] == ["topology.yaml", "config.yaml"]
    for name, body in parts:
        for key, entries in yaml.safe_load(body).items():
            for entry, settings in entries.items():
                assert settings.items() <= shipped[name][key][entry].items()


def test_the_picture_in_the_tour_shows_shipped_services_exchanges_and_queues() -> None:
    project = load_project(ROOT, {})
    objects = compile_topology(project.topology, project.consumed)
    declared = [one.name for one in objects.exchanges] + [one.name for one in objects.queues]
    known = {*project.config.services, *declared}
    picture = ElementTree.parse(DOCS / "overview.svg")
    texts = {node.text or "" for node in picture.iter("{http://www.w3.org/2000/svg}text")}
    names = {text for text in texts if re.fullmatch(r"[a-z_]+([._][a-z]+)+|payment|notification", text)}
    assert len(names) >= 9
    assert names - {"order.created"} <= known
    retry = project.topology.queues["payment.order.created"].retry
    assert f"after {len(retry) + 1} attempts" in texts


def test_the_page_of_commands_is_generated_from_the_commands() -> None:
    assert (DOCS / "cli.md").read_text("utf-8") == command_page.page(), "make schema writes it again"


def test_each_command_is_under_one_heading_and_each_example_belongs_to_a_command() -> None:
    under = [name for names in HEADINGS.values() for name in names]
    every = [name for name, _ in command_page.commands()]
    assert sorted(under) == sorted(name for name in every if " " not in name)
    assert set(command_page.EXAMPLES) <= set(every)


def test_the_help_lists_the_commands_under_the_headings_of_the_page() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    listed = {
        heading: re.findall(r"^  ([a-z]+) ", rows, re.MULTILINE)
        for heading, rows in re.findall(r"^(\w[\w ]+):\n((?:  .*\n)+)", text, re.MULTILINE)
    }
    assert {heading: listed[heading] for heading in HEADINGS} == {name: list(one) for name, one in HEADINGS.items()}
    assert set(HEADINGS) == set(command_page.MORE)


def test_the_systemd_unit_runs_the_program_and_stops_it_in_time() -> None:
    (text,) = (text for language, text in blocks(DOCS / "operations.md") if language == "ini")
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    service = unit["Service"]
    for key in ("ExecStart", "ExecReload"):
        program, *words = shlex.split(service[key])
        assert program == f"{service['WorkingDirectory']}/.venv/bin/fastcommerce"
        parsed(words)
    services = load_project(ROOT, {}).config.services.values()
    assert all(one.stop_timeout < float(service["TimeoutStopSec"]) for one in services)
    assert service["ReadWritePaths"] == f"{service['WorkingDirectory']}/var"
