"""What a row's page tells of its past: newest first, also what happened at one instant."""

from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.admin_base import _history
from apps.core.models import AuditEvent
from apps.ledger.models import LedgerAccount
from tests.accounts.factories import create_staff
from tests.core.events_of_tests import opened, publish
from tests.ledger.factories import create_organization, open_account
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_one_instant_stands_in_the_order_in_which_it_came_acts_above_events():
    organization_id = create_organization()
    account = LedgerAccount.objects.get(id=open_account(organization_id, "a"))
    rows = [
        audit.row(
            "ledger.change_account", account, organization_id=organization_id,
            actor=Actor.job("tests"), reason=f"{place}",
        )
        for place in range(12)
    ]  # fmt: skip

    @transactions.outermost
    def act():
        audit.record_all(rows)

    act()
    # Sequences of one and of two digits.
    for sequence in range(8, 13):
        publish(opened(about="la_told", sequence=sequence, organization_id=organization_id))
    past_the_guards(
        "UPDATE core_audit_event SET recorded_at = '2026-11-01'",
        "UPDATE core_outbox_event SET recorded_at = '2026-11-01'",
    )

    told = _history.read(account, aggregate_type="ledger_account", key="la_told").told

    ids = AuditEvent.objects.filter(reason__in=[str(n) for n in range(12)]).order_by("-id")
    assert [one.reason for one in told if not one.is_event] == [row.reason for row in ids]
    assert [int(one.place) for one in told if one.is_event] == [12, 11, 10, 9, 8]
    assert [one.is_event for one in told] == [False] * 12 + [True] * 5


def test_of_an_event_says_the_state_only_if_it_is_a_text():
    organization_id = create_organization()
    account = LedgerAccount.objects.get(id=open_account(organization_id, "a"))
    states = ['"closing"', '"part_paid"', '{"name": "closing"}', "[1]", "7", "true", "null", None]
    for sequence, state in enumerate(states, 1):
        publish(opened(about="la_told", sequence=sequence, organization_id=organization_id))
        if state is not None:
            past_the_guards(
                "UPDATE core_outbox_event SET data = data || jsonb_build_object('state',"
                f" '{state}'::jsonb) WHERE aggregate_id = 'la_told' AND sequence = {sequence}"
            )

    history = _history.read(account, aggregate_type="ledger_account", key="la_told")

    told = [one for one in history.told if one.is_event]
    assert [one.state for one in told[::-1]] == ["closing", "part_paid", *[None] * 6]
    assert [line.what for line in history.lines if line.is_event][::-1] == [
        "opened: closing", "opened: part paid", *["opened"] * 6,
    ]  # fmt: skip


def test_names_the_people_in_it_and_says_of_others_what_they_are():
    organization_id = create_organization()
    account = LedgerAccount.objects.get(id=open_account(organization_id, "a"))
    noor = create_staff("finance_maker")
    actors = [
        Actor.staff(noor.pk),
        Actor.staff(UUID(int=1)),
        # As an imported journal may have it.
        Actor(kind="staff", id="noor", principal="staff:noor"),
        Actor.job("tests"),
        Actor(kind="api_key", id="key_1", principal=f"staff:{noor.pk}"),
    ]

    @transactions.outermost
    def act():
        audit.record_all(
            [
                audit.row(
                    "ledger.change_account", account, organization_id=organization_id, actor=actor
                )
                for actor in actors
            ]
        )

    act()

    with CaptureQueriesContext(connection) as captured:
        history = _history.read(account, aggregate_type="ledger_account", key="la_told")
    assert len(captured) == 1
    assert [line.who for line in history.lines if not line.is_event][::-1] == [
        noor.name,
        "staff:00000000-0000-0000-0000-000000000001",
        "staff:noor",
        "job tests",
        f"an API key of {noor.name}",
    ]
    named = _history.people([f"staff:{noor.pk}", "staff:noor", "job:tests", f"staff:{UUID(int=1)}"])
    assert named == {f"staff:{noor.pk}": noor.name}
