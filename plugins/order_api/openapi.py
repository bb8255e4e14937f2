"""The API described for programs: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from .order_schema import order_schema
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

HISTORY = {
    "type": "object",
    "required": ["order_id", "status", "history"],
    "additionalProperties": False,
    "properties": {
        "order_id": {"type": "string"},
        "status": {
            "enum": ["accepted", "paid", "declined", "failed"],
            "description": "accepted: not decided yet; paid, declined: the latest decision; failed: not decided, and a "
            "message of the order is parked in a dead-letter queue, or was discarded there",
        },
        "history": {
            "type": "array",
            "description": "What happened, each thing after what caused it. Of a try there are also its numbers.",
            "items": {
                "type": "object",
                "required": ["at", "kind", "what", "type"],
                "properties": {
                    "at": {"type": "string", "format": "date-time"},
                    "kind": {
                        "enum": ["published", "handled", "duplicate", "retried", "parked", "replayed", "discarded"]
                    },
                    "what": {"type": "string", "description": "In words"},
                    "type": {"type": "string", "description": "The type of the event"},
                    "event_id": {"type": "string"},
                    "message_id": {"type": "string"},
                    "causation_id": {"type": ["string", "null"]},
                    "service": {"type": ["string", "null"]},
                    "instance": {"type": "string"},
                    "exchange": {"type": "string"},
                    "routing_key": {"type": "string"},
                    "queue": {"type": "string"},
                    "attempt": {"type": "integer", "minimum": 0},
                    "replays": {"type": "integer", "minimum": 1},
                    "redelivered": {"type": "boolean"},
                    "waited": {"type": ["number", "null"], "description": "Seconds in the queue"},
                    "took": {"type": "number", "description": "Seconds in the handler"},
                    "error": {"type": "string"},
                    "again_in": {"type": "number", "description": "Seconds until the next try"},
                },
            },
        },
    },
    "examples": [
        {
            "order_id": EXAMPLE_ID,
            "status": "accepted",
            "history": [
                {
                    "at": "2026-11-25T18:20:01.123Z",
                    "kind": "published",
                    "what": "order.created published by order_api",
                    "type": "order.created",
                    "event_id": EXAMPLE_ID,
                    "service": "order_api",
                    "exchange": "orders.topic",
                    "routing_key": "order.created",
                    "causation_id": None,
                }
            ],
        }
    ],
}

RESPONSES = {
    "BadRequest": "Not usable JSON, not an object, an unusable Idempotency-Key, or a Host not answered for",
    "NotFound": "No such URL, or an order that is not known here, or not yet",
    "LengthRequired": "No Content-Length; Transfer-Encoding is not supported",
    "TooLarge": "The body is longer than 64 KiB",
    "WrongType": "The body is not application/json, or it is encoded",
    "InvalidOrder": "Each field that is wrong is named in `errors`; or an Idempotency-Key came with another order",
    "HeadersTooLarge": "The headers are longer than 16 KiB",
    "AuditOff": "Nobody writes down what becomes of orders: the service audit is not configured",
    "StoreUnavailable": "The database does not answer for now",
    "BrokerUnavailable": "The broker did not confirm: away, blocked, no queue is bound, refused, or too slow; "
    "or the database did not commit. "
    "With an Idempotency-Key it is safe to send the order again",
}


def _response(name: str, description: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if name in ("BrokerUnavailable", "StoreUnavailable"):
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
        "summary": "Show what became of an order, where the service audit writes it down",
        "parameters": [{"name": "order_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {
            "200": {
                "description": "What is known by now: the history that `python -m runner order show --json` has too",
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/History"}}},
            },
            **_refusals(_400="BadRequest", _404="NotFound", _501="AuditOff", _503="StoreUnavailable"),
        },
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
            "schemas": {"Order": order_schema(), "Accepted": ACCEPTED, "History": HISTORY, "Problem": PROBLEM},
            "responses": {name: _response(name, text) for name, text in RESPONSES.items()},
        },
    }
