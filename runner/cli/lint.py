"""``lint``: what is allowed and most likely a mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from runner.config.project import Project, load_project
from runner.topology.lint import Finding
from runner.topology.lint import lint as find


@click.command(short_help="Look for what is most likely a mistake.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def lint(folder: Path, as_json: bool) -> None:
    """Look for what is allowed in topology.yaml and config.yaml and is most likely a mistake.

    Needs no broker. Each finding has a code; under silence in topology.yaml, the code and the name take it away. Exits
    with 1 where there are findings.
    """
    project = load_project(folder)
    findings = find(project.topology, project.config.services)
    if as_json:
        click.echo(json.dumps([_as_json(one, project) for one in findings], indent=2, ensure_ascii=False))
    else:
        for one in findings:
            code = click.style(one.code, fg="yellow") if sys.stdout.isatty() else one.code
            click.echo(f"{_place(one, project)}: {code}: {one.reason}; {one.rule.remedy}")
            if one.rule.link:
                click.secho(f"    {one.rule.link}", dim=sys.stdout.isatty() or None)
        click.echo(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "no findings")
    sys.exit(1 if findings else 0)


def _place(finding: Finding, project: Project) -> str:
    document = project.topology_document if finding.file == "topology.yaml" else project.config_document
    return f"{finding.file}:{document.line(finding.path)}"


def _as_json(finding: Finding, project: Project) -> dict[str, str]:
    return {
        "code": finding.code,
        "name": finding.name,
        "where": _place(finding, project),
        "reason": finding.reason,
        "remedy": finding.rule.remedy,
        "link": finding.rule.link,
    }
