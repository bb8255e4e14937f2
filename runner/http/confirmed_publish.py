"""Publish while a request waits for the answer."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from flask import has_request_context, request

from runner.errors import BrokerAway, ConfirmTimeout
from runner.http.direct import CONFIRM_SECONDS, FAILURE

if TYPE_CHECKING:
    from runner import Context, Event


def publish(context: Context, event: Event) -> None:
    """Publish an event in a Flask view, and wait until the broker has confirmed and routed it.

    An event that the request's direct route could not publish is not published again.

    Raises BrokerError with the reason in every case in which the broker may not have the event.
    """
    failure = request.environ.get(FAILURE) if has_request_context() else None
    try:
        if failure is not None:
            raise failure
        # Known at once while the broker is unreachable, so that waiting threads do not pile up.
        if reason := context.broker_problem():
            raise BrokerAway(reason)
        context.publish(event).result(timeout=CONFIRM_SECONDS)
    except CancelledError:
        raise BrokerAway("the service is stopping") from None
    except TimeoutError:
        raise ConfirmTimeout(f"the broker did not confirm within {CONFIRM_SECONDS:g} s") from None
