"""The API described for programs: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from .order import MAX_AMOUNT
from .problem import CONTENT_TYPE

JSON = "application/json"
EXAMPLE_ID = "6f1c0f5e-31c8-5b6f-9c4a-6a6f0a0d1a11"

PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "additionalProperties": False,
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "value": {"type": ["string", "integer", "boolean", "null"]},
                },
            },
        },
    },
}

ORDER = {
    "type": "object",
    "required": ["customer_email", "amount", "currency"],
    "additionalProperties": False,
    "properties": {
        "customer_email": {"type": "string", "format": "email"},
        "amount": {
            "description": "At most two decimal places. Never read as a binary float.",
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_AMOUNT},
                {"type": "string", "pattern": r"^[0-9]{1,16}(\.[0-9]{1,16})?$"},
            ],
        },
        "currency": {
            "type": "string",
            "pattern": "^[A-Za-z]{3}$",
            "description": "An active ISO 4217 code that has a minor unit, in either case.",
        },
        "region": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,32}$"},
    },
    "examples": [
        {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"},
        {"customer_email": "bob@example.com", "amount": 20, "currency": "eur", "region": "emea"},
    ],
}

ACCEPTED = {
    "type": "object",
    "required": ["order_id", "status", "event_id"],
    "additionalProperties": False,
    "properties": {
        "order_id": {"type": "string", "format": "uuid"},
        "status": {"const": "accepted"},
        "event_id": {"type": "string", "format": "uuid", "description": "Id of the event order.created"},
    },
    "examples": [{"order_id": EXAMPLE_ID, "status": "accepted", "event_id": EXAMPLE_ID}],
}

READY = {
    "type": "object",
    "required": ["status"],
    "additionalProperties": False,
    "properties": {
        "status": {"const": "ready"},
        "waiting": {"type": "integer", "minimum": 0, "description": "Events in the outbox that are not sent yet"},
    },
}

RESPONSES = {
    "BadRequest": "Not usable JSON, not an object, an unusable Idempotency-Key, or a Host not answered for",
    "NotFound": "No such URL, or an order: this service publishes orders and keeps none",
    "LengthRequired": "No Content-Length; Transfer-Encoding is not supported",
    "TooLarge": "The body is longer than 64 KiB",
    "WrongType": "The body is not application/json, or it is encoded",
    "InvalidOrder": "Each field that is wrong is named in `errors`; or an Idempotency-Key came with another order",
    "HeadersTooLarge": "The headers are longer than 16 KiB",
    "BrokerUnavailable": "The broker did not confirm: away, blocked, no queue is bound, refused, or too slow; "
    "or the database did not commit. "
    "With an Idempotency-Key it is safe to send the order again",
}


def _response(name: str, description: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if name == "BrokerUnavailable":
        response["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return response


def _refusals(**codes: str) -> dict[str, Any]:
    return {code[1:]: {"$ref": f"#/components/responses/{name}"} for code, name in codes.items()}


def _get(summary: str, schema: dict[str, Any], **refusals: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {JSON: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": {"200": answer, **_refusals(_400="BadRequest", **refusals)}}}


def _status(word: str) -> dict[str, Any]:
    return {"type": "object", "required": ["status"], "properties": {"status": {"const": word}}}


def describe() -> dict[str, Any]:
    """Return the document."""
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same order with the same key gets the same order_id and event_id, so that an order sent "
        "twice can be known as one. Another order with the same key is another order; with the option `outbox` it is "
        "refused with 422.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
    }
    accepted = {
        "description": "The broker has confirmed and routed order.created; with the option `outbox`, "
        "order and event are committed",
        "headers": {"Location": {"schema": {"type": "string", "format": "uri-reference"}}},
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Accepted"}}},
    }
    refusals = _refusals(
        _400="BadRequest",
        _411="LengthRequired",
        _413="TooLarge",
        _415="WrongType",
        _422="InvalidOrder",
        _431="HeadersTooLarge",
        _503="BrokerUnavailable",
    )
    place = {
        "summary": "Place an order",
        "parameters": [key],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Order"}}},
        },
        "responses": {"202": accepted, **refusals},
    }
    show = {
        "summary": "Not kept here: answers 404 for every order",
        "parameters": [{"name": "order_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": _refusals(_400="BadRequest", _404="NotFound"),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastCommerce orders", "version": "1.0.0"},
        "paths": {
            "/orders": {"post": place},
            "/orders/{order_id}": {"get": show},
            "/healthz": _get("The process is alive", _status("alive")),
            "/readyz": _get("Orders can be taken now", READY, _503="BrokerUnavailable"),
            "/openapi.json": _get("This document", {"type": "object"}),
            "/": _get("Where to go from here", {"type": "object"}),
        },
        "components": {
            "schemas": {"Order": ORDER, "Accepted": ACCEPTED, "Problem": PROBLEM},
            "responses": {name: _response(name, text) for name, text in RESPONSES.items()},
        },
    }
