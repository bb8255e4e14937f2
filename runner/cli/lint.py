"""``lint``: report probable mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from runner.config.project import Project
from runner.inspection.checked_project import project_with_plugins
from runner.inspection.findings import findings_of
from runner.topology.finding import Finding


@click.command(short_help="Report probable mistakes.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def lint(folder: Path, as_json: bool) -> None:
    """Report what is allowed in topology.yaml and config.yaml, but is probably a mistake.

    Needs no broker. Each finding has a code and a name; lint: {ignore: {CODE: [NAME]}} in topology.yaml ignores it.
    Exits with 1 if there are findings.
    """
    project = project_with_plugins(folder)
    findings = findings_of(project)
    if as_json:
        click.echo(json.dumps([_as_json(one, project) for one in findings], indent=2, ensure_ascii=False))
    else:
        for one in findings:
            code = click.style(one.code, fg="yellow") if sys.stdout.isatty() else one.code
            click.echo(f"{_place(one, project)}: {code}: {one.reason}; {one.remedy}")
            if one.rule.link:
                click.secho(f"    {one.rule.link}", dim=sys.stdout.isatty() or None)
        click.echo(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "no findings")
    sys.exit(1 if findings else 0)


def _place(finding: Finding, project: Project) -> str:
    return project.place(finding.file, finding.path)


def _as_json(finding: Finding, project: Project) -> dict[str, str]:
    return {
        "code": finding.code,
        "name": finding.name,
        "where": _place(finding, project),
        "reason": finding.reason,
        "remedy": finding.remedy,
        "link": finding.rule.link,
    }
