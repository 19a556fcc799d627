"""
The `webhooks` of the OpenAPI document: each event as an endpoint is sent it.

What `data` holds is the catalogue's schema of it, and its example; the envelope is the feed's.
"""

from collections.abc import Sequence
from typing import Any, Final

from apps.core import catalogue
from apps.core.events import Event, public_type

# As `GET /v1/events` answers it; apps.webhooks declares it.
_ENVELOPE: Final = {"$ref": "#/components/schemas/Event"}
_HEADERS: Final = {
    "webhook-id": "The event's id, the same on every retry and replay: drop one seen before.",
    "webhook-timestamp": (
        "When this attempt was made, in unix seconds: accept five minutes to either side."
    ),
    "webhook-signature": (
        "Standard Webhooks 1.0.0: `v1,` and the base64 of HMAC-SHA256 over"
        " `{webhook-id}.{webhook-timestamp}.{body}`, the body's bytes as they came; one for each"
        " secret that has not expired, with a space between. Compare in constant time."
    ),
}
_ANSWERS: Final = {
    "2XX": "It was taken, whatever the body says.",
    "410": "The endpoint is gone: it is disabled at once.",
    "default": "It was not taken: it comes again, ten times in all within some 76 hours.",
}


def add_webhooks(document: dict[str, Any], kinds: Sequence[type[Event]]) -> None:
    """Have an OpenAPI document tell of these events too."""
    document["components"]["parameters"] = {
        _name(header): {
            "in": "header",
            "name": header,
            "required": True,
            "schema": {"type": "string"},
            "description": meaning,
        }
        for header, meaning in _HEADERS.items()
    }
    ordered = sorted(kinds, key=lambda kind: public_type(kind.name))
    document["webhooks"] = {public_type(kind.name): {"post": _operation(kind)} for kind in ordered}


def _operation(kind: type[Event]) -> dict[str, Any]:
    type_ = public_type(kind.name)
    body = {
        "allOf": [
            _ENVELOPE,
            {
                "type": "object",
                "properties": {
                    "type": {"const": type_},
                    "aggregate": {"properties": {"type": {"const": kind.aggregate_type}}},
                    "data": catalogue.data_schema(kind) | {"examples": [dict(kind.example)]},
                },
            },
        ]
    }
    return {
        "operationId": f"on_{type_.replace('.', '_')}",
        "summary": catalogue.explain(kind),
        "tags": ["webhooks"],
        "parameters": [{"$ref": f"#/components/parameters/{_name(each)}"} for each in _HEADERS],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {status: {"description": meaning} for status, meaning in _ANSWERS.items()},
    }


def _name(header: str) -> str:
    """Return a header's name as components have it: webhook-id is WebhookId."""
    return header.title().replace("-", "")
