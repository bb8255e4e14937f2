"""The findings of ``lint`` about a checked project, as ``check``, each start and each reload print them."""

from __future__ import annotations

from collections.abc import Collection

from runner.config.project import Project
from runner.topology.finding import Finding
from runner.topology.lint import lint

#: No more findings are printed at once; ``lint`` prints them all.
MOST_SHOWN = 10


def findings_of(project: Project) -> list[Finding]:
    """Return all findings about a project whose plugins are checked."""
    config = project.config
    return lint(project.topology, config.services, project.terms, config.trace)


def finding_line(finding: Finding, project: Project) -> str:
    """Return a finding as ``file:line: code: reason; remedy``."""
    return f"{project.place(finding.file, finding.path)}: {finding.code}: {finding.reason}; {finding.remedy}"


def finding_lines(project: Project, known: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Return a line for each finding, and the lines to print: those not ``known``, at most ten, and how many more."""
    lines = [finding_line(one, project) for one in findings_of(project)]
    new = [one for one in lines if one not in known]
    shown = new[:MOST_SHOWN]
    if more := len(new) - len(shown):
        shown.append(f"and {more} more finding{'s' if more > 1 else ''}; python -m runner lint prints them all")
    return lines, shown
