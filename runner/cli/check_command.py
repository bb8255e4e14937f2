"""The ``check``, ``lint`` and ``schema`` commands, which check and describe the files of a project."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from runner.address import Address
from runner.cli.terminal import wrapped
from runner.config.json_schema import MODELS, json_schema
from runner.config.manual import page
from runner.config.project import Project
from runner.errors import ConfigError
from runner.inspection.checked_project import checked_project, project_with_plugins
from runner.topology.finding import Finding, finding_lines
from runner.topology.lint_rules import findings_of


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_obj
def check(folder: Path, as_json: bool) -> None:
    """Check topology.yaml, config.yaml and the plugins.

    Prints every error in the files and in the options of the plugins. If there are no errors, prints the services and
    up to ten lint findings. Exits with 78 if there are errors. Needs no broker and changes nothing.
    """
    try:
        project, objects = checked_project(folder)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "faults": error.faults}, indent=2))
            sys.exit(error.exit_code)
        raise
    services = project.config.services
    findings = findings_of(project)
    if as_json:
        summary = {
            "ok": True,
            "faults": [],
            "services": {name: service.instances for name, service in services.items()},
            "exchanges": [exchange.name for exchange in objects.exchanges],
            "queues": [queue.name for queue in objects.queues],
            "bindings": len(objects.bindings),
            "policies": [policy.name for policy in objects.policies],
            "findings": [one.line(project) for one in findings],
        }
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo("topology.yaml and config.yaml are valid")
    click.echo(f"broker    {', '.join(str(Address.of(url)) for url in project.config.broker.url)}")
    topology = (
        f"topology  {len(objects.exchanges)} exchanges, {len(project.topology.queues)} queues and"
        f" {len(objects.queues) - len(project.topology.queues)} more for retries and dead letters,"
        f" {len(objects.bindings)} bindings, {len(objects.policies)} policies"
    )
    click.echo(wrapped(topology, 10))
    width = max((len(name) for name in services), default=0)
    for name, service in services.items():
        consumes = ", ".join(service.consumes)
        publishes = ", ".join(key for keys in service.publishes.values() for key in keys)
        words = [f"{service.instances} x {service.plugin or name}"]
        words += [f"consumes {consumes}"] if consumes else []
        words += [f"publishes {publishes}"] if publishes else []
        click.echo(wrapped(f"service   {name:<{width}}  {'; '.join(words)}", width + 12))
    for line in finding_lines(findings, project):
        click.secho(wrapped(line), fg="yellow" if sys.stdout.isatty() else None)


@click.command(short_help="Print the JSON Schema of a file.")
@click.argument("file", type=click.Choice(sorted(MODELS)))
@click.option(
    "--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True,
    help="The output format: a JSON Schema, or the page docs/configuration.md as Markdown.",
)  # fmt: skip
@click.pass_obj
def schema(folder: Path, file: str, form: str) -> None:
    """Print the JSON Schema of topology.yaml or config.yaml, or the page docs/configuration.md."""
    if form == "markdown":
        if file != "config":
            raise click.BadParameter(f"not available for {file}.yaml; allowed: config", param_hint="--format markdown")
        # Plugins are imported only here, because a JSON Schema does not need them.
        from runner.plugins import load_plugin, plugin_names

        options = {name: load_plugin(name, folder).options for name in sorted(plugin_names(folder))}
        click.echo(page(options), nl=False)
        return
    click.echo(json.dumps(json_schema(file), indent=2))


@click.command(short_help="Report probable mistakes.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def lint(folder: Path, as_json: bool) -> None:
    """Report settings in topology.yaml and config.yaml that are valid but probably wrong.

    Needs no broker. Each finding has a code and a name. To ignore a finding, add lint: {ignore: {CODE: [NAME]}} to
    topology.yaml. Exits with 1 if there are findings.
    """
    project = project_with_plugins(folder)
    findings = findings_of(project)
    if as_json:
        click.echo(json.dumps([_as_json(one, project) for one in findings], indent=2, ensure_ascii=False))
    else:
        for one in findings:
            code = click.style(one.code, fg="yellow") if sys.stdout.isatty() else one.code
            line = f"{project.place(one.file, one.path)}: {one.code}: {one.reason}; {one.remedy}"
            click.echo(wrapped(line).replace(f" {one.code}:", f" {code}:", 1))
            if one.rule.link:
                click.secho(f"    {one.rule.link}", dim=sys.stdout.isatty() or None)
        click.echo(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "no findings")
    sys.exit(1 if findings else 0)


def _as_json(finding: Finding, project: Project) -> dict[str, str]:
    return {
        "code": finding.code,
        "name": finding.name,
        "where": project.place(finding.file, finding.path),
        "reason": finding.reason,
        "remedy": finding.remedy,
        "link": finding.rule.link,
    }
