"""Error reports to Sentry: off without a DSN, and never with a body, a person or a bank account."""

from typing import TYPE_CHECKING, cast

import sentry_sdk
from sentry_sdk.integrations.logging import ignore_logger

from config.logging import REQUESTS
from config.redaction import redact

if TYPE_CHECKING:
    from sentry_sdk.types import Breadcrumb, BreadcrumbHint, Event, Hint

# What of a request helps to find a fault; everything else of it is dropped.
_REQUEST_KEPT = frozenset({"method"})


def start_reporting(*, dsn: str, environment: str) -> None:
    """Start to report unhandled errors, where an address to report to is given."""
    if not dsn:
        return
    # The line of a request ends it, so it leads to no fault.
    ignore_logger(REQUESTS)
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        send_default_pii=False,
        max_request_body_size="never",
        # A frame's variables hold amounts, names and clear bank details.
        include_local_variables=False,
        max_breadcrumbs=20,
        shutdown_timeout=1,
        before_send=scrub,
        before_breadcrumb=scrub_breadcrumb,
    )


def scrub(event: "Event", _hint: "Hint") -> "Event":
    """Return the report without the request's content and with every text masked by shape."""
    request = event.get("request", {})
    event["request"] = {key: value for key, value in request.items() if key in _REQUEST_KEPT}
    event.pop("user", None)
    return cast("Event", redact(event))


def scrub_breadcrumb(crumb: "Breadcrumb", _hint: "BreadcrumbHint") -> "Breadcrumb | None":
    """Leave out what SQL and HTTP calls say of themselves: values stand in both."""
    if crumb.get("category") in {"query", "httplib"}:
        return None
    return cast("Breadcrumb", redact(crumb))
