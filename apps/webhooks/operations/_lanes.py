"""What a lane's holder does with the lane itself: see that it is still held, and let it go."""

from datetime import datetime
from typing import Final

from apps.core import statements, transactions, work
from apps.webhooks import queries
from apps.webhooks.models import WebhookLane

# How long a lane rests after a turn that met a fault of ours.
FAULT_SECONDS: Final = 60
# Why a lane is due later than what is on it. Fan-out wakes no lane that has such a code.
RESTS: Final = "rests"
# Never earlier than now: a backlog's oldest delivery would put its lane before all others again and
# again, while theirs wait.
_LET_GO: Final = """
    UPDATE webhooks_webhooklane
       SET state = CASE WHEN %(due)s::timestamptz IS NULL THEN 'done' ELSE 'pending' END,
           attempts = CASE WHEN %(due)s::timestamptz IS NULL THEN attempts ELSE 0 END,
           next_attempt_at = CASE WHEN %(due)s::timestamptz IS NULL THEN next_attempt_at
                                  ELSE greatest(%(due)s, statement_timestamp()) END,
           lapses = 0, last_error_code = %(code)s, lease_until = NULL, lease_token = NULL
     WHERE organization_id = %(org)s AND id = %(lane)s
"""


@transactions.outermost
def put_lane_off(*, lane: WebhookLane) -> None:
    """
    Let a lane go whose turn met a fault of ours; it is due again in a minute.

    Its lease does not lapse, so it is never set aside for that, and comes back by itself.
    """
    held = lock(lane)
    if held is not None:
        work.mark_retry(held, error_code="turn_failed", delay_seconds=FAULT_SECONDS)


def lock(lane: WebhookLane) -> WebhookLane | None:
    """Return the lane locked, if its holder still holds it."""
    return work.lock_leased(
        WebhookLane,
        organization_id=lane.organization_id,
        row_id=lane.id,
        lease_token=lane.lease_token,
    )


def let_go(lane: WebhookLane, *, not_before: datetime | None = None) -> None:
    """
    Let the locked lane go until its next delivery falls due; if one is, behind all due lanes.

    It rests until `not_before`, if something falls due earlier: what is owed meanwhile wakes it no
    sooner. Where nothing does, the time is that of a retry, and another delivery may come first.
    The lane's lock was taken by an earlier statement; only this one reads what is due, so that a
    delivery committed in between is seen.
    """
    due = queries.find_next_due(lane=lane)
    code = ""
    if due is not None and not_before is not None and due < not_before:
        due, code = not_before, RESTS
    statements.send(
        _LET_GO, {"org": lane.organization_id, "lane": lane.id, "due": due, "code": code}
    )
