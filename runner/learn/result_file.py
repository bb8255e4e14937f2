"""The results of checks in the formats of other programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from runner.escape import escaped, one_line
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict

#: The maximum length of a message (Exercism, "The Interface" of test runners, version 3).
MAX_MESSAGE = 65_535
#: The first line about an error.
NOT_CHECKED = "The check could not run. This is not about the files."


def text_of(task: TaskResult) -> str:
    """Return everything about a task that has not passed, as plain text."""
    parts = [
        NOT_CHECKED if task.verdict is Verdict.ERROR else "",
        f"did: {task.did}" if task.did else "", f"expected: {task.expected}" if task.expected else "",
        f"saw: {task.saw}" if task.saw else "", *task.history, task.say, f"look: {task.look}" if task.look else "",
    ]  # fmt: skip
    # XML allows no control characters, and the text may quote the learner's files.
    return escaped("\n".join(one for one in parts if one))[:MAX_MESSAGE]


def _exercism(results: Sequence[ExerciseResult]) -> str:
    tests: list[dict[str, Any]] = []
    for result in results:
        for number, task in enumerate(result.tasks, 1):
            message = None if task.verdict is Verdict.PASS else text_of(task)
            tests.append(
                {
                    "name": f"{result.exercise}: {task.title}", "status": str(task.verdict), "message": message,
                    "output": None, "test_code": task.did or task.title, "task_id": number,
                    "exercise": result.exercise, "task": task.task, "points": task.points, "of": task.of,
                    "seconds": task.seconds,
                }
            )  # fmt: skip
    verdict = _verdict(results)
    error = next((text_of(task) for one in results for task in one.tasks if task.verdict is Verdict.ERROR), None)
    return json.dumps({"version": 3, "status": str(verdict), "message": error, "tests": tests}, indent=2)


def _junit(results: Sequence[ExerciseResult]) -> str:
    root = ElementTree.Element("testsuites", name="FastCommerce exercises")
    for result in results:
        verdicts = [one.verdict for one in result.tasks]
        suite = ElementTree.SubElement(
            root, "testsuite", name=result.exercise, tests=str(len(verdicts)),
            failures=str(verdicts.count(Verdict.FAIL)), errors=str(verdicts.count(Verdict.ERROR)),
            time=f"{sum(one.seconds for one in result.tasks):.3f}",
        )  # fmt: skip
        for task in result.tasks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=result.exercise, name=task.task, time=f"{task.seconds:.3f}"
            )
            if task.verdict is not Verdict.PASS:
                kind = "failure" if task.verdict is Verdict.FAIL else "error"
                ElementTree.SubElement(case, kind, message=one_line(task.say or task.saw)).text = text_of(task)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _gradescope(results: Sequence[ExerciseResult]) -> str:
    tests = [
        {
            "name": f"{result.exercise}: {task.title}", "score": task.points, "max_score": task.of,
            "status": "passed" if task.verdict is Verdict.PASS else "failed", "output": text_of(task),
        }
        for result in results
        for task in result.tasks
    ]  # fmt: skip
    return json.dumps({"tests": tests}, indent=2)


def _classroom50(results: Sequence[ExerciseResult]) -> str:
    environment = {
        "classroom": "CLASSROOM", "assignment": "ASSIGNMENT", "owner": "OWNER", "submission": "SUBMISSION_TAG",
        "commit": "COMMIT_URL", "release": "RELEASE_URL", "review": "REVIEW_URL",
    }  # fmt: skip
    tests = [
        {
            "test-name": f"{result.exercise}/{task.task}", "passed": task.verdict is Verdict.PASS,
            "score": task.points, "max-score": task.of, "message": text_of(task),
        }
        for result in results
        for task in result.tasks
    ]  # fmt: skip
    content = {
        "schema": "classroom50/result/v1",
        **{key: os.environ.get(variable, "") for key, variable in environment.items()},
        "datetime": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "score": sum(one.points for one in results),
        "max-score": sum(one.of for one in results),
        "tests": tests,
    }
    return json.dumps(content, indent=2)


def _verdict(results: Sequence[ExerciseResult]) -> Verdict:
    verdicts = {one.verdict for one in results}
    return next((one for one in (Verdict.ERROR, Verdict.FAIL) if one in verdicts), Verdict.PASS)


#: The formats by name.
FORMATS: dict[str, Callable[[Sequence[ExerciseResult]], str]] = {
    "json": _exercism,
    "junit": _junit,
    "classroom50": _classroom50,
    "gradescope": _gradescope,
}
#: The formats for graders, for which a failed exercise is no failure of the command.
GRADERS = ("classroom50", "gradescope")
