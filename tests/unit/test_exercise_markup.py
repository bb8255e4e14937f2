"""The Markdown of an exercise as HTML."""

from __future__ import annotations

import re

import pytest

from runner.dashboard.exercise_markup import markup_of
from runner.learn.exercise import exercises_in
from tests.running import ROOT

EXERCISES = exercises_in(ROOT / "exercises")


def test_all_forms_become_html_and_all_text_is_escaped() -> None:
    text = """# Title

A line with `<code>` and **bold**,
a [page](https://example.com/?a=1&b=2) and a [file](../x.md).

    sample <b>

- one
  continued
- two

1. first
2. second

## Below

```sh
fenced
```
After."""
    assert markup_of(text).split("\n") == [
        "<p>A line with <code>&lt;code&gt;</code> and <b>bold</b>, a"
        ' <a href="https://example.com/?a=1&amp;b=2" target="_blank" rel="noreferrer">page</a> and a file.</p>',
        '<pre class="code" tabindex="0">sample &lt;b&gt;</pre>',
        "<ul><li>one continued</li><li>two</li></ul>",
        "<ol><li>first</li><li>second</li></ol>",
        "<h3>Below</h3>",
        '<pre class="code" tabindex="0">fenced</pre>',
        "<p>After.</p>",
    ]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_no_word_of_an_exercise_is_lost(exercise) -> None:
    text = (exercise.folder / "README.md").read_text("utf-8")
    shown = markup_of(text).striptags()
    words = re.findall(r"[\w.]+", text.split("\n", 1)[1])
    assert [one for one in words if one not in shown and not one.rstrip(".").isdecimal()] == []
