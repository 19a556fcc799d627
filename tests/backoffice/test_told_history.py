"""What a row's page tells of its past: newest first, also what happened at one instant."""

import pytest

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.admin_base import _history
from apps.core.models import AuditEvent
from apps.ledger.models import LedgerAccount
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
