"""``python -m tests.exercise_page`` writes docs/exercises.md, the format of exercises, from its models."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from runner.config.value import parse_duration
from runner.learn.exercise import ExerciseFile, Question, Sentence, Task
from runner.learn.expectation import Books, Counted, Delay, Expectation, LogLines, OrderState, Way
from runner.learn.given_step import Fault, GatewayBehavior, GivenStep, Moment, Publication
from runner.learn.quantity import Quantity
from runner.learn.vocabulary import Vocabulary
from tests.running import ROOT

PAGE = ROOT / "docs" / "exercises.md"

INTRODUCTION = """\
# The format of exercises

*For teachers and authors: every key of `exercise.yaml`, how a check judges, and how to prove an exercise.*

`make schema` generates this page from the models that read the file. [teaching.md](teaching.md) describes the use in
a class.

An exercise is a folder `exercises/NN-name/`:

| file | contents |
|---|---|
| `README.md` | the text for the learner, at most 24 lines; the first line is `# N. Title` |
| `exercise.yaml` | the prediction, the hints, the tasks and the explanation |
| `starter/` | the learner's first files: `topology.yaml`, `config.yaml`, and plugins if needed |
| `solution/` | the same files, solved |
| `wrong/NAME/` | one mistake of real learners: the files that differ from the solution; three or more |
| `wrong/NAME/sentence.txt` | the sentence that this mistake must get |

The page Learn does not show the section `## In other terminals` of a `README.md`. A terminal shows it.

`fastcommerce learn dev new 19-my-exercise` writes an exercise that is complete and proved. Change it step by step,
and run
`fastcommerce learn dev check 19` after each step:

- the starter fails, the solution passes, and a system that does nothing fails
- each wrong solution fails with its sentence
- the files, links, hints and lengths are as this page says

## How a check judges

1. **Files.** Only files that match `edit` may differ from the starter. Links and files of more than 1 MiB are refused.
   Hidden files, backup files of editors, `var` and `__pycache__` are ignored.
2. **Configuration.** An error in a file or a plugin is a fail with the error's line. It is never an error of the
   check.
3. **Tasks.** Each task runs the real supervisor with the learner's files, on a virtual host that exists only for this
   task. The tasks run
   at the same time, and independently of each other. `broker`, `store`, the port of the order API and
   `fault_injection` are replaced.
   `audit` is added if the files have none.
4. **Expectations.** The check looks until all of `expect` are met, and then for `stays_for`. It gives up after
   `within`, or as soon as the system is quiet. A system is quiet if no message is in flight or waits for a process or
   in the outbox, and nothing has changed for 1 s. A wrong response is final 1 s after the last step.
5. **Sentence.** The first entry of `when_wrong` whose `saw` was seen is printed. Without one, the learner still sees
   what was done, what was
   expected, and what was seen.

The verdict is `pass`, `fail`, or `error` if the check or the broker has failed. An error never counts against the
learner.

A quantity is a number such as `3`, a comparison such as `">0"` or `"<=60"`, or a range such as `1..9`.
"""

#: The tables of the page with their models.
TABLES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("exercise.yaml", "The top-level keys.", ExerciseFile),
    ("Questions", "`predict` and `review` are questions, which are never graded.", Question),
    ("Tasks", "The entries of `tasks`.", Task),
    ("Sentences", "The entries of `when_wrong`.", Sentence),
    (
        "Steps",
        "The entries of `given`. Each has exactly one subject, and the keys marked with … below it.",
        GivenStep,
    ),
    ("Gateway", "A behavior of the card gateway with values of its own.", GatewayBehavior),
    ("Faults", "The value of `fault`.", Fault),
    ("Moments", "The value of `when`. It has exactly one of these keys.", Moment),
    ("Publications", "The value of `publish` and `followed_by`.", Publication),
    (
        "Expectations",
        "The entries of `expect`, `never`, `wait` and `saw`. Each has exactly one subject, and the keys marked with …"
        " below it.",
        Expectation,
    ),
    ("Counts by type", "The value of `emails` and `rows`.", Counted),
    ("Orders by status", "The value of `order`.", OrderState),
    ("Accounts", "The value of `ledger`.", Books),
    ("Delays", "The value of `p95`.", Delay),
    ("Routes", "The value of `route`.", Way),
    ("Log lines", "The value of `log`.", LogLines),
)


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for title, text, model in TABLES:
        parts.append("\n".join([f"## {title}", "", text, "", *_table(model), ""]))
    return "\n".join(parts)


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | value | meaning |"
    yield "|---|---|---|"
    if issubclass(model, Vocabulary):
        rest = dict(model.model_fields)
        for subject, others in model.SUBJECTS.items():
            yield _row(subject, rest.pop(subject))
            for other in others:
                if other in rest:
                    yield _row(f"… {other}", rest.pop(other))
        return
    for name, field in model.model_fields.items():
        yield _row(name, field)


def _row(name: str, field: FieldInfo) -> str:
    shown = f"… `{name[2:]}`" if name.startswith("… ") else f"`{name}`"
    meaning = (field.description or "").replace("|", "\\|")
    required = " Required." if field.is_required() else ""
    kind = "duration" if _is_duration(field.metadata) else _kind(field.annotation)
    return f"| {shown} | {kind} | {meaning}{required} |"


def _is_duration(metadata: Iterable[Any]) -> bool:
    return any(isinstance(one, BeforeValidator) and one.func is parse_duration for one in metadata)


def _kind(annotation: Any) -> str:
    """Return the kind of a value in words."""
    if get_origin(annotation) is typing.Annotated:
        kind, *metadata = get_args(annotation)
        return "duration" if _is_duration(metadata) else _kind(kind)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return " or ".join(dict.fromkeys(_kind(one) for one in members))
    if get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{str(one).lower() if one is True else one}`" for one in get_args(annotation))
    if get_origin(annotation) is tuple:
        kind = _kind(get_args(annotation)[0])
        return f"list of {kind}{'s' if kind == 'string' else ''}"
    if get_origin(annotation) is dict:
        return f"mapping of names to {_kind(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        titles = {model: title for title, _, model in TABLES}
        anchor = re.sub(r"[^\w-]", "", titles[annotation].lower().replace(" ", "-"))
        return f"[{titles[annotation].lower()}](#{anchor})"
    words: dict[Any, str] = {
        str: "string",
        int: "number",
        float: "number",
        bool: "true or false",
        Quantity: "quantity",
    }
    return words[annotation]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
