"""Events and consumers that the tests of the outbox use."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from jsonschema import Draft202012Validator

from apps.approvals.events import ApprovalRequested
from apps.core import catalogue, outbox, transactions
from apps.core.actors import Actor
from apps.core.events import Event, catalogued_events
from apps.core.models import EventWork, OutboxBatch, OutboxEvent
from apps.core.work import WorkRow
from apps.ledger.events import LedgerAccountOpened

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
ACTOR = Actor.job("tests")
# The same in every process of a test.
ORGANIZATION = UUID("01930000-0000-7000-8000-000000000001")
OTHER = UUID("01930000-0000-7000-8000-000000000002")


def opened(
    code: str = "a", *, sequence: int = 1, about: str = "", organization_id: UUID = ORGANIZATION
) -> Event:
    """Make a public event."""
    return LedgerAccountOpened(
        organization_id=organization_id,
        aggregate_id=about or f"la_{code}",
        sequence=sequence,
        occurred_at=NOW,
        code=code,
        type="liability",
        currency="EUR",
    )


def asked(organization_id: UUID = ORGANIZATION) -> Event:
    """Make an internal event."""
    return ApprovalRequested(
        organization_id=organization_id,
        aggregate_id="apr_1",
        occurred_at=NOW,
        act="payouts.approve",
        subject_type="payout",
        subject_id="po_1",
        state="open",
    )


@transactions.outermost
def publish(*events: Event, then: Callable[[], object] | None = None) -> None:
    """Publish these events in one transaction."""
    for event in events:
        outbox.publish(event, actor=ACTOR, now=NOW)
    if then is not None:
        then()


def relayed(*batches: list[Event]) -> None:
    """Publish some batches and have their consumers' rows made."""
    for batch in batches:
        publish(*batch)
    outbox.relay()


def make_due(model: type[WorkRow]) -> None:
    """Let every lease and every delay end now."""
    model.objects.filter(state__in=["pending", "leased"]).update(next_attempt_at=NOW)


def end_delays(model: type[WorkRow]) -> None:
    """Let every delay end now, beside others that work: their leases stay theirs."""
    # Row by row: callers that changed them all at once would lock them in any order.
    for row_id in model.objects.values_list("id", flat=True):
        model.objects.filter(id=row_id, state="pending").update(next_attempt_at=NOW)


def relay_and_consume() -> None:
    """Work until nothing is due."""
    while outbox.relay() or outbox.consume():
        pass


def positions(organization_id: UUID = ORGANIZATION) -> list[int | None]:
    """Return the batches' positions in the order they were inserted."""
    batches = OutboxBatch.objects.filter(organization_id=organization_id, public=True)
    return list(batches.order_by("inserted_at").values_list("position", flat=True))


def states() -> list[str]:
    """Return the states of the consumers' rows, oldest first."""
    return list(EventWork.objects.order_by("id").values_list("state", flat=True))


def uncatalogued_data() -> list[str]:
    """Return where the data of events in the log is not as the catalogue has it."""
    schemas = {
        kind.name: Draft202012Validator(catalogue.data_schema(kind, is_closed=True))
        for kind in catalogued_events()
    }
    rows = list(OutboxEvent.objects.values_list("name", "data"))
    assert rows
    return [
        f"{name}{fault.json_path[1:]}: {fault.message}"
        for name, data in rows
        for fault in schemas[name].iter_errors(data)
    ]
