"""The findings of ``lint`` about a checked project, as ``check``, each start and each reload print them."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.project import Project
from runner.invocation import invocation
from runner.topology.finding import Finding
from runner.topology.lint import lint

#: The largest number of findings to print; ``lint`` prints all.
MOST_SHOWN = 10


def findings_of(project: Project) -> list[Finding]:
    """Return all findings about a project whose plugins are checked."""
    config = project.config
    return lint(project.topology, config.services, project.terms, project.attempts_queue)


def finding_line(finding: Finding, project: Project) -> str:
    """Return a finding as ``file:line: code: reason; remedy``."""
    return f"{project.place(finding.file, finding.path)}: {finding.code}: {finding.reason}; {finding.remedy}"


def finding_lines(findings: Sequence[Finding], project: Project) -> list[str]:
    """Return the lines to print: one for each finding, at most ten, and the number of the others."""
    lines = [finding_line(one, project) for one in findings[:MOST_SHOWN]]
    if more := len(findings) - len(lines):
        lines.append(f"and {more} more finding{'s' if more > 1 else ''}; to print them all: {invocation('lint')}")
    return lines
