"""The URL ``/metrics``, which Prometheus scrapes."""

from __future__ import annotations

from flask import Blueprint, Response, request

from runner.dashboard.web_server import current_dashboard

BLUEPRINT = Blueprint("metrics", __name__)


@BLUEPRINT.get("/metrics")
def show_metrics() -> Response:
    """Return all metrics of the system. No page needs to be open."""
    # The Prometheus client takes about 40 ms to import, and a dashboard that is never scraped does not need it.
    from runner.dashboard.exposition import exposition

    body, media_type = exposition(current_dashboard().sampler.sample(), request.headers.get("Accept", ""))
    return Response(body, content_type=media_type)
