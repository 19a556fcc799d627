"""What can be done with endpoints, and with what is owed to them."""

from apps.webhooks.operations._endpoints import (
    OVERLAP_SECONDS_DEFAULT,
    EndpointTerms,
    create_endpoint,
    delete_endpoint,
    ping_endpoint,
    rotate_secret,
    update_endpoint,
)
from apps.webhooks.operations._fanout import envelope, fan_out
from apps.webhooks.operations._replays import replay_delivery, replay_failed
from apps.webhooks.operations._retention import purge_deliveries
from apps.webhooks.operations._sending import (
    LaneWork,
    Owed,
    Recorded,
    open_lane,
    put_lane_off,
    record_attempts,
)
from apps.webhooks.operations._shared import LANE_KIND, SLOW_LANE_KIND
from apps.webhooks.operations._switching import (
    disable_endpoint,
    disable_unreachable_endpoint,
    enable_endpoint,
    move_to_queue,
    wake_endpoint,
)

__all__ = [
    "LANE_KIND",
    "OVERLAP_SECONDS_DEFAULT",
    "SLOW_LANE_KIND",
    "EndpointTerms",
    "LaneWork",
    "Owed",
    "Recorded",
    "create_endpoint",
    "delete_endpoint",
    "disable_endpoint",
    "disable_unreachable_endpoint",
    "enable_endpoint",
    "envelope",
    "fan_out",
    "move_to_queue",
    "open_lane",
    "ping_endpoint",
    "purge_deliveries",
    "put_lane_off",
    "record_attempts",
    "replay_delivery",
    "replay_failed",
    "rotate_secret",
    "update_endpoint",
    "wake_endpoint",
]
