"""The exercises of this repository, which are read once for all tests of a process."""

from __future__ import annotations

from runner.learn.exercise import Exercise, exercises_in
from tests.running import ROOT

EXERCISES: list[Exercise] = exercises_in(ROOT / "exercises")
