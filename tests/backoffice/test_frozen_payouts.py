"""A breach of the books freezes payouts: no file leaves before a check finds that they hold."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.db.models.functions import Now

from apps.backoffice import operations
from apps.backoffice.models import InvariantCheck
from apps.core import clock, findings, invariants, metrics
from apps.payouts import operations as payouts
from apps.payouts import tasks
from apps.payouts.models import BatchWork
from tests.payouts import factories
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)

WRONG = "UPDATE ledger_balance SET posted_debits = posted_debits {} 1 WHERE version > 0"


@pytest.fixture
def batch(settings):
    """A batch whose file is written and due to be sent."""
    settings.PAYOUT_COOLDOWN_HOURS = 0
    home = factories.world()
    target = factories.destination(home, factories.customer_with(home, 500_00))
    frozen = factories.freeze(factories.request(home, target, 100_00))
    factories.export(frozen)
    return frozen


def check(*broken: str) -> None:
    InvariantCheck.objects.create(checked_at=clock.now(), statement_count=1, broken=broken)


def sending(batch) -> tuple[str, str, int]:
    """Work what is due, and return how the sending of the batch stands, and its tries."""
    BatchWork.objects.filter(state="pending").update(next_attempt_at=Now())
    tasks.work_batches()
    row = BatchWork.objects.get(batch_id=batch.id, step="send")
    batch.refresh_from_db()
    return row.state, row.last_error_code, row.attempts


def told() -> set[str]:
    """Return of which invariants the exporter tells that they do not hold; it tells of all."""
    [gauge] = [one for one in metrics.read_gauges() if one.name == "kassa_invariant_violations"]
    assert "payouts: what waits holds its fee" in {labels["name"] for labels, _ in gauge.samples}
    return {labels["name"] for labels, value in gauge.samples if value}


def test_waits_for_books_that_add_up_and_goes_then(batch):
    past_the_guards(WRONG.format("+"))
    operations.check_invariants(now=clock.now())
    # However often it looks, it has all its tries.
    assert sending(batch) == sending(batch) == ("pending", "books_broken", 0)
    assert (batch.state, batch.send_started_at) == ("exported", None)
    # Whoever is on duty is woken for it.
    assert told() == {"ledger_balance_follows_its_postings", "ledger_trial_balance_is_zero"}
    past_the_guards(WRONG.format("-"))
    assert sending(batch)[1] == "books_broken"

    operations.check_invariants(now=clock.now())

    assert sending(batch)[:2] == ("done", "")
    assert told() == set()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("ledger_trial_balance_is_zero", "pending"),
        ("money_that_came_is_a_payment_or_unmatched", "pending"),
        ("target_has_one_live_match", "pending"),
        ("payouts_batch_work_is_not_overdue", "done"),
        ("webhook_delivery_has_its_fanout", "done"),
        ("correction_waits_for_somebody", "done"),
    ],
)
def test_waits_for_what_the_rows_of_money_say_alone(batch, name, state):
    check(name)

    assert sending(batch)[0] == state


def test_waits_for_each_of_payouts_own(batch):
    for name in invariants.collect(only_apps=frozenset({"payouts"})):
        if not name.endswith("_is_not_overdue"):
            check(name)
            assert sending(batch)[0] == "pending"
    check()

    assert sending(batch)[0] == "done"


def test_one_that_a_sender_has_begun_is_not_frozen(batch):
    """Its file may have left, which the bank is asked about, and nobody may upload it again."""
    begun = payouts.begin_send(
        organization_id=batch.organization_id, batch_id=batch.id, actor=factories.JOB,
        now=factories.CUT_OFF,
    )  # fmt: skip
    assert begun is not None
    check("ledger_trial_balance_is_zero")

    sending(batch)

    assert (batch.state, batch.send_started_at) == ("unknown", factories.CUT_OFF)


def test_somebody_looks_at_all_of_it_and_thaws_it(batch):
    """As of one whose statement is too slow for the job: what was broken stays so there."""
    check("ledger_trial_balance_is_zero")
    call_command("check_invariants", stdout=StringIO())
    assert sending(batch)[1] == "books_broken"

    call_command("check_invariants", keep=True, stdout=StringIO())

    assert sending(batch)[0] == "done"
    with pytest.raises(CommandError, match="Only a run of all"):
        call_command("check_invariants", keep=True, app=["ledger"])


def test_a_whole_look_that_finds_something_freezes(batch):
    past_the_guards(WRONG.format("+"))

    with pytest.raises(SystemExit):
        call_command("check_invariants", keep=True, stdout=StringIO())

    assert sending(batch)[1] == "books_broken"


def test_an_exporter_that_may_not_read_it_tells_the_others(monkeypatch):
    def refused() -> list[str]:
        raise DatabaseError("permission denied")

    monkeypatch.setattr(findings, "_finders", [refused])

    names = {gauge.name for gauge in metrics.read_gauges()}

    assert "kassa_work_due" in names
    assert "kassa_invariant_violations" not in names


def test_is_decided_by_the_last_check(batch):
    check("ledger_trial_balance_is_zero")
    check()

    assert sending(batch)[0] == "done"


def test_staff_who_sent_the_file_by_hand_are_believed(batch):
    check("ledger_trial_balance_is_zero")

    payouts.mark_batch_sent(
        organization_id=batch.organization_id, batch_id=batch.id, reason="Uploaded at the bank",
        idempotency_key="by-hand", actor=factories.JOB, now=factories.CUT_OFF,
    )  # fmt: skip

    batch.refresh_from_db()
    assert batch.state == "submitted"
