"""The form of steps and expectations: one subject, and the keys that belong to it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Vocabulary(BaseModel):
    """A mapping with exactly one subject, such as ``orders``, and the keys that belong to this subject."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The other keys that are allowed for each subject.
    SUBJECTS: ClassVar[dict[str, tuple[str, ...]]] = {}

    @model_validator(mode="after")
    def _has_one_subject(self) -> Any:
        given = self.model_fields_set
        subjects = [one for one in self.SUBJECTS if one in given]
        if len(subjects) != 1:
            found = "none of them" if not subjects else " and ".join(subjects)
            allowed = ", ".join(sorted(self.SUBJECTS))
            raise ValueError(f"needs exactly one of these keys, has {found}; allowed: {allowed}")
        others = given - {subjects[0], *self.SUBJECTS[subjects[0]]}
        if others:
            allowed = ", ".join(self.SUBJECTS[subjects[0]]) or "no further key"
            raise ValueError(f"{sorted(others)[0]!r} does not belong to {subjects[0]!r}; allowed: {allowed}")
        return self

    @property
    def subject(self) -> str:
        """The key that names the subject of the mapping."""
        return next(one for one in self.SUBJECTS if one in self.model_fields_set)
