"""Publishes events of several organizations, each in a transaction of its own; runs as a child."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench._events import CHANGED, create_endpoint, open_organization, publish_each

_ORGANIZATIONS: Final = 20
_THREADS: Final = 8
# Nothing is ever sent there: it wants another type of event than those that are published.
_URL: Final = "http://127.0.0.1:9/never"


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Open the organizations, each with an endpoint; return what publishes `count` events."""
    organization_ids = [open_organization() for _ in range(_ORGANIZATIONS)]
    for organization_id in organization_ids:
        create_endpoint(organization_id, _URL, event_type=CHANGED)

    def publish() -> dict[str, float]:
        began = time.perf_counter()
        publish_each(
            (organization_ids[number % _ORGANIZATIONS] for number in range(order["count"])),
            threads=_THREADS,
        )
        return {"per_second": order["count"] / (time.perf_counter() - began)}

    return publish
