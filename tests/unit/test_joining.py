"""The files for contributors fit GitHub's schemas, and name targets, versions and files that exist."""

from __future__ import annotations

import json
import re
import tomllib
from configparser import ConfigParser
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.matrix.__main__ import rows
from tests.running import ROOT

GITHUB = ROOT / ".github"
PAGES = [GITHUB / "CONTRIBUTING.md", GITHUB / "SECURITY.md"]
WORKFLOWS = sorted((GITHUB / "workflows").glob("*"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


class Loader(yaml.SafeLoader):
    """YAML 1.2, as GitHub reads it: ``on`` is a text."""


Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path) -> Any:
    return yaml.load(path.read_text("utf-8"), Loader)  # a subclass of SafeLoader


@cache
def schema(name: str) -> Draft7Validator:
    return Draft7Validator(json.loads((ROOT / "tests/github" / name).read_text("utf-8")))


def problems(name: str, data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in schema(name).iter_errors(data)]


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = load(GITHUB / "workflows/ci.yml")
    return found


def commands() -> list[str]:
    return [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_fits_the_schema_of_workflows(path) -> None:
    assert problems("github-workflows.json", load(path)) == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_template_of_issues_fits_the_schema_of_forms(path) -> None:
    assert problems("github-issue-forms.json", load(path)) == []


def test_the_schemas_refuse_files_that_github_refuses() -> None:
    wrong = workflow()
    wrong["jobs"]["suite"]["step"] = wrong["jobs"]["suite"].pop("steps")
    assert problems("github-workflows.json", wrong)
    assert problems("github-workflows.json", {"jobs": workflow()["jobs"]}), "without `on`"
    form = load(FORMS[0])
    form["body"][1]["type"] = "text"
    assert problems("github-issue-forms.json", form)


def test_the_workflow_runs_the_checks_with_each_supported_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lowest, too_new = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    suite = workflow()["jobs"]["suite"]
    assert suite["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(lowest, too_new)]
    assert ".ci/run" in [step.get("run") for step in suite["steps"]]


def test_the_workflow_runs_all_rows_of_the_matrix_and_no_others() -> None:
    jobs = workflow()["jobs"]
    named = {one["row"] for one in jobs["releases"]["strategy"]["matrix"]["include"]}
    named |= {word for command in commands() for word in re.findall(r"run-[a-z]+-[a-z]+", command)}
    assert named == {row.name for row in rows()}


def test_the_workflow_may_only_read_and_every_job_has_a_time_limit() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    for job in workflow()["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 90
        assert "permissions" not in job


def test_every_named_target_of_make_exists() -> None:
    hooks = [hook for repository in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    texts = [*commands(), *(hook["entry"] for hook in hooks), (ROOT / ".ci/run").read_text("utf-8")]
    for page in PAGES:
        texts += re.findall(r"`make [^`]*`|^make .*$", page.read_text("utf-8"), re.MULTILINE)
    named = {word for text in texts for word in re.findall(r"\bmake ([a-z-]+)", text)}
    assert {"check", "test", "test-matrix", "run"} <= named <= TARGETS


def test_the_hooks_of_pre_commit_run_targets_of_make() -> None:
    config = load(ROOT / ".pre-commit-config.yaml")
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["entry"].startswith("make ")
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        assert set(hook["stages"]) <= set(config["default_install_hook_types"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page) -> None:
    text = page.read_text("utf-8")
    named = re.findall(r"`([\w.]+/[\w./-]*|[A-Z]+\.md|pyproject\.toml|requirements\.txt)`", text)
    links = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert len(named) + len(links) > 3
    assert [name for name in named if not name.startswith("var/") and not (ROOT / name).exists()] == []
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_editors_use_the_line_length_of_the_linter() -> None:
    editors = ConfigParser()
    editors.read_string("[top]\n" + (ROOT / ".editorconfig").read_text("utf-8"))
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]
    assert editors.getint("*.{py,md}", "max_line_length") == ruff["line-length"]
