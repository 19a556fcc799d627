"""What can be done with endpoints, with what is owed to them, and with what providers tell."""

from apps.webhooks.operations._changes import CHANGE_KIND, Progress, carry_on, is_set_aside
from apps.webhooks.operations._connections import (
    add_provider_connection,
    count_refused_call,
    replace_provider_secret,
    verify_message,
)
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
from apps.webhooks.operations._inbox import (
    INBOUND_KIND,
    link_event,
    match_parked,
    receive_event,
    work_event,
    work_events,
)
from apps.webhooks.operations._keeping import (
    PURGED_AT_ONCE,
    purge_inbound_bodies,
    purge_inbound_events,
)
from apps.webhooks.operations._lanes import FAULT_SECONDS, put_lane_off
from apps.webhooks.operations._opening import (
    LaneWork,
    Owed,
    Seen,
    count_first_attempt,
    open_lane,
)
from apps.webhooks.operations._recording import Recorded, record_attempts
from apps.webhooks.operations._releasing import RELEASED_AT_ONCE, release_ignored_events
from apps.webhooks.operations._replays import replay_delivery, replay_failed
from apps.webhooks.operations._retention import purge_deliveries
from apps.webhooks.operations._shared import LANE_KIND, SLOW_LANE_KIND
from apps.webhooks.operations._switching import (
    disable_endpoint,
    disable_unreachable_endpoint,
    enable_endpoint,
    move_to_queue,
    wake_endpoint,
)

__all__ = [
    "CHANGE_KIND",
    "FAULT_SECONDS",
    "INBOUND_KIND",
    "LANE_KIND",
    "OVERLAP_SECONDS_DEFAULT",
    "PURGED_AT_ONCE",
    "RELEASED_AT_ONCE",
    "SLOW_LANE_KIND",
    "EndpointTerms",
    "LaneWork",
    "Owed",
    "Progress",
    "Recorded",
    "Seen",
    "add_provider_connection",
    "carry_on",
    "count_first_attempt",
    "count_refused_call",
    "create_endpoint",
    "delete_endpoint",
    "disable_endpoint",
    "disable_unreachable_endpoint",
    "enable_endpoint",
    "envelope",
    "fan_out",
    "is_set_aside",
    "link_event",
    "match_parked",
    "move_to_queue",
    "open_lane",
    "ping_endpoint",
    "purge_deliveries",
    "purge_inbound_bodies",
    "purge_inbound_events",
    "put_lane_off",
    "receive_event",
    "record_attempts",
    "release_ignored_events",
    "replace_provider_secret",
    "replay_delivery",
    "replay_failed",
    "rotate_secret",
    "update_endpoint",
    "verify_message",
    "wake_endpoint",
    "work_event",
    "work_events",
]
