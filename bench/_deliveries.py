"""
Deliveries by Kassa's own workers to the receiver, beside a bad endpoint; runs as a child.

The workers run beside it, on the same database and broker. Every round ends with its outcome: each
event came to each endpoint once, and each delivery is recorded as succeeded by its one attempt.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from apps.core import clock, work
from apps.core.ids import decode_id, encode_id, new_id
from apps.core.models import OutboxEvent
from apps.webhooks import operations, queries, tasks
from apps.webhooks.adapters.sender import Sender
from apps.webhooks.models import (
    LANES_DEFAULT,
    WebhookAttempt,
    WebhookBody,
    WebhookDelivery,
    WebhookLane,
)
from apps.webhooks.operations import Owed
from apps.webhooks.rules import targets
from apps.webhooks.states import DeliveryStatus
from bench._events import (
    ACTOR,
    CHANGED,
    OPENED,
    SECONDS_MAX,
    changed,
    create_endpoint,
    open_organization,
    opened,
    publish,
    publish_at,
    wait_until,
)
from bench._rounds import medians, percentile
from bench.receiver import Receiver, receiver

# What the bad endpoint is owed: more than its lanes come to within a round.
_QUEUED: Final = 500
_HANGS: Final = "/hang"
# The time that an attempt may take at most.
_IS_LATE: Final = "/late/15"
_PUBLISHERS: Final = 4


@dataclass(frozen=True)
class Endpoint:
    """One endpoint that answers at once."""

    id: UUID
    path: str
    secret: str


@dataclass
class World:
    """The receiver, the endpoints that answer at once, and how many deliveries they were owed."""

    far: Receiver
    organization_id: UUID
    endpoints: Sequence[Endpoint]
    owed: int = 0


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Return the measurement that is asked for: `saturated`, or `at_rate`."""
    return partial({"saturated": _saturated, "at_rate": _at_rate}[order["measure"]], order)


def _saturated(order: Mapping[str, Any]) -> dict[str, float]:
    """Return deliveries per second beside one that hangs, and what a bare loop sends."""
    with receiver() as far:
        world = _open_world(far, order["endpoints"])
        _per_second(world, order["events"])
        _bare_per_second(world, order["events"])
        per_second, bare = medians(
            lambda: _beside(world, _HANGS, partial(_per_second, world, order["events"])),
            lambda: _bare_per_second(world, order["events"]),
        )
    return {"per_second": per_second, "bare_per_second": bare}


def _at_rate(order: Mapping[str, Any]) -> dict[str, float]:
    """Return p95 at a rate that leaves room, in seconds: without a late endpoint, and beside it."""
    with receiver() as far:
        world = _open_world(far, order["endpoints"])
        _p95(world, order["rate"], order["warm_up"])
        p95 = partial(_p95, world, order["rate"], order["seconds"])
        alone, beside = medians(p95, lambda: _beside(world, _IS_LATE, p95))
    return {"alone": alone, "beside": beside}


def _open_world(far: Receiver, count: int) -> World:
    organization_id = open_organization()
    endpoints = []
    for number in range(count):
        path = f"/prompt/{number}"
        id_, secret = create_endpoint(organization_id, far.url(path), event_type=OPENED)
        endpoints.append(Endpoint(id_, path, secret))
    return World(far, organization_id, endpoints)


# --- Rounds -----------------------------------------------------------------------------------


def _per_second(world: World, events: int) -> float:
    """Owe all at once, and count from the first arrival to the last."""
    world.far.forget()
    publish([opened(world.organization_id) for _ in range(events)])
    arrived = sorted(at for _, at in _arrivals(world, events))
    return (len(arrived) - 1) / (arrived[-1] - arrived[0])


def _p95(world: World, rate: float, seconds: float) -> float:
    """Publish at a rate; a delivery takes from its event's record to its arrival."""
    world.far.forget()
    events = publish_at(
        rate, seconds=seconds, organization_id=world.organization_id, threads=_PUBLISHERS
    )
    arrived = _arrivals(world, events)
    recorded = dict(
        OutboxEvent.objects.filter(
            organization_id=world.organization_id, id__in={id_ for id_, _ in arrived}
        ).values_list("id", "recorded_at")
    )
    return percentile(sorted(at - recorded[id_].timestamp() for id_, at in arrived), 0.95)


def _arrivals(world: World, events: int) -> list[tuple[UUID, float]]:
    """Wait until these events came to every endpoint, and return when, by the event's id."""
    paths = [endpoint.path for endpoint in world.endpoints]
    wanted = events * len(paths)
    world.owed += wanted
    wait_until(
        lambda: _arrived(world) >= wanted, what=f"{events} events at each of {len(paths)} endpoints"
    )
    _check_records(world)
    requests, arrivals = world.far.requests(), world.far.arrivals()
    counts = {path: (requests[path], len(arrivals[path])) for path in paths}
    if set(counts.values()) != {(events, events)}:
        msg = f"Not each of {events} events came once: {counts}"
        raise RuntimeError(msg)
    return [(decode_id("evt", id_), at) for path in paths for id_, at in arrivals[path].items()]


def _arrived(world: World) -> int:
    requests = world.far.requests()
    return sum(requests.get(endpoint.path, 0) for endpoint in world.endpoints)


def _check_records(world: World, *, seconds: float = SECONDS_MAX) -> None:
    """Wait until the last attempts are recorded, and compare them with what was owed so far."""
    ours = {
        "organization_id": world.organization_id,
        "endpoint_id__in": [endpoint.id for endpoint in world.endpoints],
    }
    deliveries = WebhookDelivery.objects.filter(**ours)
    wait_until(
        lambda: not deliveries.exclude(status=DeliveryStatus.SUCCEEDED).exists(),
        what="every delivery recorded as succeeded",
        seconds=seconds,
    )
    found = deliveries.count(), WebhookAttempt.objects.filter(**ours).count()
    if found != (world.owed, world.owed):
        msg = f"{world.owed} deliveries were owed; deliveries and attempts are {found}."
        raise RuntimeError(msg)


# --- The bad endpoint -------------------------------------------------------------------------


def _beside(world: World, path: str, measure: Callable[[], float]) -> float:
    with _holding_threads(world, path):
        return measure()


@contextmanager
def _holding_threads(world: World, path: str) -> Iterator[None]:
    """Have one endpoint with a queue hold threads, a request on each of its lanes, to the end."""
    endpoint_id, _ = create_endpoint(world.organization_id, world.far.url(path), event_type=CHANGED)
    publish([changed(world.organization_id) for _ in range(_QUEUED)])
    wait_until(lambda: world.far.hanging() >= LANES_DEFAULT, what="a request waits on each lane")
    yield
    # A request that is given up after 15 s is followed by the next, until the circuit opens at 30.
    wait_until(
        lambda: world.far.hanging() >= LANES_DEFAULT,
        what="the endpoint holds threads to the end of the round",
        seconds=2,
    )
    operations.delete_endpoint(
        organization_id=world.organization_id, endpoint_id=endpoint_id, actor=ACTOR, now=clock.now()
    )
    world.far.release()
    lanes = WebhookLane.objects.filter(
        organization_id=world.organization_id, endpoint_id=endpoint_id, state__in=work.OPEN
    )
    wait_until(lambda: not lanes.exists(), what="the threads that waited are free")


# --- The bare loop ----------------------------------------------------------------------------


def _bare_per_second(world: World, events: int) -> float:
    """Send as much by the same client, signed alike, with no rows: one after the other."""
    bodies = [
        bytes(row.body)
        for row in WebhookBody.objects.filter(organization_id=world.organization_id)[:events]
    ]
    policy = queries.get_policy()
    began = time.perf_counter()
    for endpoint in world.endpoints:
        target = targets.parse_url(world.far.url("/bare"), policy=policy)
        with closing(Sender(policy=policy)) as sender:
            for body in bodies:
                owed = Owed(
                    delivery_id=new_id(), message_id=encode_id("evt", new_id()), number=1, body=body
                )
                message = tasks.sign(
                    owed, target=target, secrets=(endpoint.secret,), at=clock.now()
                )
                if not sender.send(message).succeeded:
                    raise RuntimeError("A send of the bare loop failed.")
    return len(bodies) * len(world.endpoints) / (time.perf_counter() - began)
