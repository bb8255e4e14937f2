"""The JSON body of a Flask request."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from runner.http.problem import Problem, invalid
from runner.strict_json import decode_json

Model = TypeVar("Model", bound=BaseModel)


def read_body(model: type[Model], noun: str, type: str = "about:blank") -> Model:
    """Read the request's body, such as an "order", as strict JSON and check it.

    Raises Problem: 415 or 411 for what is not plain JSON of a stated length, 400 for what is no JSON object, and 422,
    which names each wrong field and has this ``type``.
    """
    if request.mimetype != "application/json":
        given = request.headers.get("Content-Type", "none")
        raise Problem(415, f"Content-Type: {given!r} is not supported; send application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding: not supported; send the JSON as it is")
    if request.content_length is None:
        raise Problem(411, f"Content-Length: missing; say how long the {noun} is")
    try:
        value = decode_json(request.get_data(cache=False))
    except ValueError as error:
        raise Problem(400, f"the body is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body is not a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error, noun, model.model_fields, type) from None
