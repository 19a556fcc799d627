"""One worked call of each operation on events and their delivery, for the OpenAPI document."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_ENDPOINT: Final = "whe_01kb1mzxe5f0q8w3v6y2n4r7ta"
_EVENT: Final = "evt_01kb1mzxe5f0q8w3v6y2n4r7ta"
_HOLD: Final = "ho_01kb1mzxe5f0q8w3v6y2n4r7ta"
_MORNING: Final = "2026-11-02T09:30:00Z"
_endpoint: Final[dict[str, Any]] = {
    "id": _ENDPOINT,
    "url": "https://hooks.example.com/kassa",
    "description": "Checkout",
    "event_types": ["hold.*"],
    "api_version": "2026-11-01",
    "status": "enabled",
    "disabled_reason": None,
    "ordering": "none",
    "max_in_flight": 8,
    "first_failure_at": None,
    "circuit_open_until": None,
    "sequence": 1,
    "created_at": _MORNING,
}
_delivery: Final[dict[str, Any]] = {
    "id": "whd_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "endpoint": _ENDPOINT,
    "event": _EVENT,
    "event_type": "hold.voided",
    "aggregate_id": _HOLD,
    "sequence": 2,
    "api_version": "2026-11-01",
    "status": "failed",
    "attempts": 12,
    "next_attempt_at": None,
    "last_outcome": "server_error",
    "last_status_code": 500,
    "created_at": _MORNING,
    "closed_at": "2026-11-05T09:30:00Z",
}
_event: Final[dict[str, Any]] = {
    "id": _EVENT,
    "type": "hold.voided",
    "timestamp": _MORNING,
    "api_version": "2026-11-01",
    "organization_id": "org_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "sequence": 2,
    "aggregate": {"type": "hold", "id": _HOLD},
    "data": {"released": 40_00, "currency": "EUR"},
}
_attempt: Final[dict[str, Any]] = {
    "id": "wha_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "number": 12,
    "started_at": "2026-11-05T09:29:59Z",
    "duration_ms": 41,
    "outcome": "server_error",
    "status_code": 500,
    "address": "203.0.113.7",
    "answer_head": "Internal Server Error",
}
_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105  (nobody's)
CREATE_ENDPOINT: Final = Example(
    request={
        "url": "https://hooks.example.com/kassa",
        "event_types": ["hold.*"],
    },
    response={**_endpoint, "description": "", "secret": _SECRET},
)
LIST_ENDPOINTS: Final = Example(response=page_of(_endpoint))
READ_ENDPOINT: Final = Example(response=_endpoint)
CHANGE_ENDPOINT: Final = Example(
    request={"event_types": ["hold.*", "payout.*"]},
    response={**_endpoint, "event_types": ["hold.*", "payout.*"], "sequence": 2},
)
ROTATE_SECRET: Final = Example(
    request={"overlap_seconds": 3600}, response={**_endpoint, "secret": _SECRET, "sequence": 2}
)
PING_ENDPOINT: Final = Example(response=_endpoint)
DISABLE_ENDPOINT: Final = Example(
    request={"reason": "It moves to another host."},
    response={
        **_endpoint, "status": "disabled", "disabled_reason": "requested", "sequence": 2,
    },
)  # fmt: skip
ENABLE_ENDPOINT: Final = Example(
    request={"paused": "resume"}, response={**_endpoint, "sequence": 3}
)
REPLAY_FAILED: Final = Example(
    request={"since": _MORNING, "reason": "The host was down."},
    response={
        "id": "whr_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "delivery_count": 7,
        "created_at": "2026-11-05T12:00:00Z",
    },
)
LIST_DELIVERIES: Final = Example(response=page_of(_delivery))
READ_DELIVERY: Final = Example(response=_delivery)
LIST_ATTEMPTS: Final = Example(response=page_of(_attempt))
REPLAY_DELIVERY: Final = Example(
    request={"reason": "The host was down."},
    response={
        **_delivery, "status": "pending", "next_attempt_at": "2026-11-05T12:00:00Z",
        "closed_at": None,
    },
)  # fmt: skip
FOLLOW_EVENTS: Final = Example(
    response={"data": [_event], "has_more": False, "next": "AAAAAAAAAdEAAAAAAAAAAA=="}
)
READ_EVENT: Final = Example(response=_event)
