"""
The work of this app's workers: what is owed, and endpoints that change; `_inbox` has the rest.

Sending: claim a lane, ask what it owes, POST with no transaction open, record.

A lane's row is the queue; a task's message only says "look now". Any of this may stop at any
instant: a lane whose holder died falls due again when its lease ends, and sends the same ids.
"""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from celery.signals import worker_init
from django.db import connection

from apps.core import clock, context, failpoints, jobs, partitions, work, working
from apps.core.failpoints import Failpoint
from apps.core.working import Record, Worker
from apps.webhooks import operations, queries
from apps.webhooks.adapters.sender import ATTEMPT_SECONDS_MAX, Message, Sender
from apps.webhooks.errors import UrlRefused
from apps.webhooks.models import WebhookChange, WebhookLane
from apps.webhooks.operations import LaneWork, Owed, Recorded, Seen
from apps.webhooks.queries import DueLane
from apps.webhooks.rules import retries, signing, targets
from apps.webhooks.rules.retries import UNREACHED, Attempt, Outcome
from apps.webhooks.rules.targets import Policy, Target
from apps.webhooks.rules.threads import Pace, Threads
from apps.webhooks.tasks._inbox import INBOUND, purge_inbox, work_inbound

__all__ = [
    "INBOUND",
    "carry_out_changes",
    "claim_lane",
    "purge_deliveries",
    "purge_inbox",
    "register",
    "send_due",
    "send_slow_due",
    "work_inbound",
    "work_lane",
]

log = structlog.stdlib.get_logger("kassa.webhooks")

# How long one holder works a lane before it lets the next one have a turn.
LANE_SECONDS_MAX: Final = 10.0
# And where all threads are at work that this one's like may have: others wait for them.
LANE_SECONDS_AWAITED: Final = 1.0
LANE_DELIVERIES_MAX: Final = 50
RECORD_EVERY: Final = 20
RECORD_SECONDS: Final = 1.0
# A last attempt may begin just before the turn ends. No task's limit ends a thread: this holds by
# the turn's own clock and the attempt's own deadline.
HARD_SECONDS: Final = int(LANE_SECONDS_MAX + ATTEMPT_SECONDS_MAX)
TASK_SECONDS_MAX: Final = 60.0
_LANES_LOOKED_AT: Final = 64
# How often a change looks whether those who send have let their lanes go.
_LANES_HELD_SECONDS: Final = 1
# By pool, the organization whose lane this process had last; the next one follows it.
_served: Final = {False: UUID(int=0), True: UUID(int=0)}
_threads: Final = Threads()


@worker_init.connect
def _count_threads(sender: Any, **_: object) -> None:  # noqa: ANN401  Celery's signals are untyped
    # It may be a word still, which the pool makes a number of: of that none is kept.
    _threads.number = sender.concurrency if isinstance(sender.concurrency, int) else 0


def register() -> None:
    """Declare the app's jobs, and what it needs events for; called when the app is ready."""
    jobs.declare(kind="webhooks.purge_inbox", schedule=jobs.Every(minutes=60), steps=purge_inbox)
    # A pass ends after twenty seconds and removes what 40,000 events were owed as: more often than
    # others, so that it keeps up with a hundred events a second (ADR 0112).
    jobs.declare(
        kind="webhooks.purge_deliveries", schedule=jobs.Every(minutes=5), run=purge_deliveries
    )
    partitions.register_holder(name="webhooks.deliver", is_needed=queries.has_pending_before)


def purge_deliveries(_period: str, now: datetime) -> None:
    """Remove what was owed for events that are no longer kept."""
    operations.purge_deliveries(now=now)


def _lanes(*, kind: str, task: str, queue: str, is_slow: bool) -> Worker[WebhookLane]:
    def claim() -> list[WebhookLane]:
        lane = claim_lane(is_slow=is_slow)
        if lane is None:
            return []
        # Another thread looks as well, so that many due lanes soon have many holders.
        work.nudge(kind)
        return [lane]

    def perform(lane: WebhookLane) -> Record[WebhookLane]:
        try:
            work_lane(lane, policy=queries.get_policy())
        finally:
            _threads.leave()
        return working.recorded

    # However often: set aside for a fault that passes, a lane would keep all that it owes.
    def put_off(lane: WebhookLane, fault: Exception) -> None:
        code = type(fault).__name__[:64]
        work.mark_retry(lane, error_code=code, delay_seconds=operations.FAULT_SECONDS)

    return Worker(
        kind=kind,
        model=WebhookLane,
        task=task,
        queue=queue,
        hard_seconds=HARD_SECONDS,
        in_threads=True,
        seconds_max=TASK_SECONDS_MAX,
        condition="is_slow" if is_slow else "NOT is_slow",
        claim=claim,
        perform=perform,
        put_off=put_off,
    )


send_due: Final = working.register(
    _lanes(kind=operations.LANE_KIND, task="webhooks.send_due", queue="webhooks", is_slow=False)
)
# The same rows: lanes of the endpoints that answer slowly, which have threads of their own.
send_slow_due: Final = working.register(
    _lanes(
        kind=operations.SLOW_LANE_KIND,
        task="webhooks.send_slow_due",
        queue="webhooks_slow",
        is_slow=True,
    )
)


def claim_lane(*, is_slow: bool) -> WebhookLane | None:
    """
    Lease one due lane, or return None.

    Organizations take turns, so that whoever has a hundred lanes holds up nobody else's; of one
    organization the lane that has waited longest comes first. Who has as many of this process's
    threads as it may is passed over.
    """
    _threads.leave()
    faster = _threads.list_faster(at=time.monotonic())
    if faster == []:
        # Whatever is due is passed over: with very many lanes even that takes a tenth of a second.
        return None
    due = queries.list_due_lanes(
        is_slow=is_slow,
        after=_served[is_slow],
        without=_threads.list_full(),
        only=faster,
        limit=_LANES_LOOKED_AT,
    )
    for organization_id, lanes in due.items():
        for pace, ids in _by_pace(lanes).items():
            # Another thread may have begun for it by now.
            is_taken = _threads.take(organization_id, pace=pace)
            if is_taken and (lane := _claim_one(ids)) is not None:
                _served[is_slow] = organization_id
                return lane
    return None


def _by_pace(lanes: list[DueLane]) -> dict[Pace, list[UUID]]:
    """Return the lanes by their endpoints' pace, that of the first lane first."""
    parted: dict[Pace, list[UUID]] = {}
    now = time.monotonic()
    for lane in lanes:
        parted.setdefault(_threads.pace(lane.endpoint_id, at=now), []).append(lane.id)
    return parted


def _claim_one(ids: list[UUID]) -> WebhookLane | None:
    """Lease one of an organization's lanes; without one the thread is at work for nobody."""
    claimed: list[WebhookLane] = []
    try:
        claimed = work.claim_due(
            WebhookLane, limit=1, lease_seconds=work.lease_of(HARD_SECONDS), only_ids=ids
        )
    finally:
        if not claimed:
            # Others have them all at this instant, or they cannot be asked for.
            _threads.leave()
    return claimed[0] if claimed else None


def work_lane(lane: WebhookLane, *, policy: Policy) -> int:
    """
    Send what the leased lane owes, for one turn; return how many attempts were made.

    A fault of ours costs this lane a minute, and other lanes nothing.
    """
    begun = time.monotonic()
    turn = _Turn(lane=lane, begun=begun, recorded_at=begun)
    sender = Sender(policy=policy)
    try:
        while (owed := operations.open_lane(lane=lane, limit=turn.room(), now=clock.now())) and (
            turn.send(owed, sender=sender, policy=policy)
        ):
            pass
    # The boundary. Were the lease left to lapse, what was sent and not recorded would be sent
    # again, and after five such turns the lane would be set aside with all that it owes.
    except Exception:
        log.exception("webhook_turn_failed", lane_id=str(lane.id))
        turn.break_off()
    finally:
        sender.close()
        # Between transactions the pool may have it: others of this process are waiting.
        connection.close()
    return turn.made


@dataclass(slots=True)
class _Turn:
    """One holder's turn on a lane: what it sent and has not recorded, and since when."""

    lane: WebhookLane
    begun: float
    recorded_at: float
    made: int = 0
    unrecorded: list[Attempt] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)

    def room(self) -> int:
        return LANE_DELIVERIES_MAX - self.made

    def is_late(self) -> bool:
        return time.monotonic() - self.begun >= LANE_SECONDS_MAX

    def is_over(self) -> bool:
        return self.is_late() or self.made >= LANE_DELIVERIES_MAX or self.is_awaited()

    def is_awaited(self) -> bool:
        is_long = time.monotonic() - self.begun >= LANE_SECONDS_AWAITED
        return is_long and _threads.is_crowded()

    def send(self, owed: LaneWork, *, sender: Sender, policy: Policy) -> bool:
        """Send these one by one; false when the lane was let go, or is another's by now."""
        self.seen = owed.seen
        self.unrecorded += owed.unsendable
        self.made += len(owed.unsendable)
        for place, item in enumerate(owed.owed, 1):
            # Whatever held this turn up, an attempt that begins too late would outlast its lease.
            if self.is_late():
                break
            # No connection is held while the other side takes its time.
            connection.close()
            begun_at = owed.now()
            with context.in_trace(item.traceparent):
                made = attempt(item, owed=owed, sender=sender, policy=policy)
            _threads.saw(
                self.lane.endpoint_id,
                seconds=made.duration_ms / 1000,
                is_slow=self.lane.is_slow,
                at=time.monotonic(),
            )
            operations.count_first_attempt(item, begun_at=begun_at, outcome=made.outcome)
            failpoints.reach(Failpoint.WEBHOOKS_SENT)
            self.unrecorded.append(made)
            self.made += 1
            if self.is_over():
                break
            # The last of them is recorded below.
            if place < len(owed.owed) and self.must_record(made):
                recorded = self.record()
                if not recorded.is_held or recorded.is_stopped:
                    # Stopped, the lane is let go by the next look at it.
                    return recorded.is_held
        is_last = owed.is_all or self.is_over()
        return self.record(is_last=is_last).is_held and not is_last

    def must_record(self, made: Attempt) -> bool:
        """Say whether to record now: in batches, but at once what may end the sending."""
        if len(self.unrecorded) >= RECORD_EVERY:
            return True
        is_late = time.monotonic() - self.recorded_at >= RECORD_SECONDS
        return is_late or made.outcome in UNREACHED or made.outcome is Outcome.GONE

    def record(self, *, is_last: bool = False) -> Recorded:
        """Store what was sent, and do what it leads to."""
        recorded = operations.record_attempts(
            lane=self.lane,
            seen=self.seen,
            attempts=self.unrecorded,
            is_last=is_last,
            now=clock.now(),
        )
        self.unrecorded = []
        self.recorded_at = time.monotonic()
        _follow_up(self.lane, self.seen, recorded)
        return recorded

    def break_off(self) -> None:
        """Store what was sent one by one, and put the lane off."""
        # If the fault was this connection's, it must not be met again.
        connection.close()
        try:
            # What they lead to comes once all are stored: it may meet the fault again.
            for recorded in [self.record_alone(made) for made in self.unrecorded]:
                _follow_up(self.lane, self.seen, recorded)
        finally:
            operations.put_lane_off(lane=self.lane)

    def record_alone(self, made: Attempt) -> Recorded:
        """Store one attempt; without the receiver's words, if those cannot be stored."""
        record = partial(operations.record_attempts, lane=self.lane, seen=self.seen, is_last=False)
        try:
            return record(attempts=[made], now=clock.now())
        # The boundary: one attempt that cannot be stored must not cost the others their record.
        except Exception:
            log.exception("webhook_attempt_not_stored", delivery_id=str(made.delivery_id))
            return record(attempts=[replace(made, head="", retry_after="")], now=clock.now())


def attempt(item: Owed, *, owed: LaneWork, sender: Sender, policy: Policy) -> Attempt:
    """Send one delivery once, if its URL may still be sent to; a fault of ours is an outcome."""
    try:
        target = targets.parse_url(owed.url, policy=policy)
        return sender.send(sign(item, target=target, secrets=owed.secrets, at=owed.now()))
    except UrlRefused:
        outcome = Outcome.BLOCKED_ADDRESS
    # The boundary: the others of the lane are sent, and this one's next attempt comes in its time.
    except Exception:
        log.exception("webhook_attempt_failed", delivery_id=str(item.delivery_id))
        outcome = Outcome.INTERNAL_ERROR
    return retries.ended_here(
        delivery_id=item.delivery_id, number=item.number, outcome=outcome, now=clock.now()
    )


def sign(item: Owed, *, target: Target, secrets: tuple[str, ...], at: datetime) -> Message:
    """Make the message of one attempt: the same id and body each time, this attempt's time."""
    timestamp = int(at.timestamp())
    signature = signing.sign(
        secrets=secrets, message_id=item.message_id, timestamp=timestamp, body=item.body
    )
    return Message(
        delivery_id=item.delivery_id,
        number=item.number,
        target=target,
        headers={
            "webhook-id": item.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        },
        body=item.body,
        started_at=datetime.fromtimestamp(int(clock.now().timestamp()), UTC),
    )


def _follow_up(lane: WebhookLane, seen: Seen, recorded: Recorded) -> None:
    """Do what the attempts have led to, each in an operation of its own."""
    endpoint = {"organization_id": lane.organization_id, "endpoint_id": lane.endpoint_id}
    if recorded.is_gone or recorded.is_failing:
        operations.disable_unreachable_endpoint(
            **endpoint, is_gone=recorded.is_gone, revision=seen.revision, now=clock.now()
        )
    if recorded.moves_to_slow is not None:
        operations.move_to_queue(**endpoint, is_slow=recorded.moves_to_slow)
    if recorded.is_circuit_closed:
        operations.wake_endpoint(**endpoint)


# --- Changes of endpoints ---------------------------------------------------------------------


def _carry_out(change: WebhookChange) -> Record[WebhookChange]:
    ends = time.monotonic() + working.TURN_SECONDS
    while (
        progress := operations.carry_on(change=change, now=clock.now())
    ) is operations.Progress.MORE and time.monotonic() < ends:
        pass
    if progress is operations.Progress.WAITS:
        return partial(
            work.mark_waiting, error_code="lanes_held", delay_seconds=_LANES_HELD_SECONDS
        )
    return work.mark_continued if progress is operations.Progress.MORE else working.recorded


CHANGES: Final = Worker(
    kind=operations.CHANGE_KIND,
    model=WebhookChange,
    task="webhooks.carry_out_changes",
    queue="events",
    seconds_max=working.LONG_ROWS_SECONDS_MAX,
    perform=_carry_out,
)
carry_out_changes: Final = working.register(CHANGES)
