"""What the benchmarks of events publish, and how they wait; used by parts that run as children."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Final
from uuid import UUID, uuid4

from django.db import connection

from apps.accounts import operations as accounts
from apps.core import clock, outbox, transactions
from apps.core.actors import Actor
from apps.core.events import Event, public_type
from apps.core.ids import encode_id, new_id
from apps.ledger.events import LedgerAccountChanged, LedgerAccountOpened
from apps.webhooks import operations as webhooks
from apps.webhooks.operations import EndpointTerms

ACTOR: Final = Actor.job("bench")
# Whatever has not happened so long after it was due never will.
SECONDS_MAX: Final = 120.0
OPENED: Final = public_type(LedgerAccountOpened.name)
CHANGED: Final = public_type(LedgerAccountChanged.name)


def open_organization() -> UUID:
    return accounts.create_organization(
        name="Bench", time_zone="UTC", actor=ACTOR, now=clock.now()
    ).id


def create_endpoint(organization_id: UUID, url: str, *, event_type: str) -> tuple[UUID, str]:
    """Make an endpoint that wants one type of event; return its id and its secret."""
    endpoint, secret = webhooks.create_endpoint(
        organization_id=organization_id,
        terms=EndpointTerms(url=url, event_types=[event_type]),
        idempotency_key=uuid4().hex,
        actor=ACTOR,
        now=clock.now(),
    )
    return endpoint.id, secret or ""


def opened(organization_id: UUID) -> Event:
    """Make an event about something that no event was about before."""
    return LedgerAccountOpened(
        organization_id=organization_id,
        aggregate_id=encode_id("la", new_id()),
        occurred_at=clock.now(),
        code="wallets:bench:EUR",
        type="liability",
        currency="EUR",
    )


def changed(organization_id: UUID) -> Event:
    """Make an event of another type, about something that no event was about before."""
    return LedgerAccountChanged(
        organization_id=organization_id,
        aggregate_id=encode_id("la", new_id()),
        occurred_at=clock.now(),
        status="open",
        min_available=0,
    )


@transactions.outermost
def publish(events: Sequence[Event]) -> None:
    """Commit these events in one transaction, which is all that it does."""
    for event in events:
        outbox.publish(event, actor=ACTOR, now=clock.now())


def publish_at(rate: float, *, seconds: float, organization_id: UUID, threads: int) -> int:
    """
    Commit one event after another, each when it is due; return how many.

    An open loop: one that is late does not put off those after it.
    """
    total = max(1, int(rate * seconds))
    started = time.monotonic()

    def due() -> Iterable[UUID]:
        for number in range(total):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            yield organization_id

    publish_each(due(), threads=threads)
    return total


def publish_each(organization_ids: Iterable[UUID], *, threads: int) -> None:
    """Commit an event for each of these, as they come, from several threads."""
    waiting: SimpleQueue[UUID | None] = SimpleQueue()
    faults: list[BaseException] = []
    workers = [Thread(target=partial(_publish_waiting, waiting, faults)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for organization_id in organization_ids:
        waiting.put(organization_id)
    for _ in workers:
        waiting.put(None)
    for worker in workers:
        worker.join()
    if faults:
        raise faults[0]


def _publish_waiting(waiting: "SimpleQueue[UUID | None]", faults: list[BaseException]) -> None:
    try:
        while (organization_id := waiting.get()) is not None:
            publish([opened(organization_id)])
    # The boundary of a thread: whoever started it raises what ended it.
    except Exception as fault:  # noqa: BLE001
        faults.append(fault)
    finally:
        connection.close()


def wait_until(
    holds: Callable[[], bool], *, what: str, seconds: float = SECONDS_MAX, every: float = 0.05
) -> None:
    """
    Return once it holds.

    :raises RuntimeError: if it never does
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            msg = f"Not within {seconds:g} s: {what}."
            raise RuntimeError(msg)
        time.sleep(every)
