from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection
from django.db.models.functions import Now

from apps.accounts.models import Customer
from apps.banking.models import BankLine, BankLineStatus, LineQueue
from apps.core import work
from apps.core.models import OutboxEvent
from apps.ledger import queries as ledger
from apps.ledger.models import JournalEntry
from apps.payments.models import Payment, UnmatchedMoney
from apps.reconciliation import operations
from apps.reconciliation.models import Break, Match, MatchLeg
from tests.banking.factories import (
    ACTOR,
    NOW,
    create_bank_account,
    create_organization,
    import_file,
)
from tests.banking.real_files import needs_real_files, real_file
from tests.banking.statements import Entry, Made, camt053, camt054
from tests.ledger.factories import close_month
from tests.ledger.histories import movements_of
from tests.reconciliation.factories import (
    assert_books_hold,
    available,
    create_customer,
    create_reference,
    match_all,
    posted,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def organization_id():
    return create_organization()


@pytest.fixture
def account(organization_id):
    return create_bank_account(organization_id)


@pytest.fixture
def customer(organization_id):
    return create_customer(organization_id)


@pytest.fixture
def reference(customer):
    return create_reference(customer)


def imported(organization_id, *entries, **more):
    return import_file(organization_id, camt053(Made(entries=entries, **more)))


class TestAPayIn:
    def test_under_a_reference_is_available_to_its_customer(
        self, organization_id, account, customer, reference
    ):
        imported(organization_id, Entry(amount=125_00, reference=reference.reference))

        assert match_all() == (1, 0)

        assert available(customer) == 125_00
        payment = Payment.objects.get()
        assert (payment.amount_minor, payment.customer_id) == (125_00, customer.id)
        assert payment.received_at.isoformat() == "2026-03-01T23:00:00+00:00"
        assert MatchLeg.objects.get().target_id == payment.id
        [event] = OutboxEvent.objects.filter(type="payment.received")
        assert (event.data["amount"], event.data["reference"]) == (125_00, reference.reference)
        assert_books_hold()

    def test_in_free_text_broken_over_lines_is_found(
        self, organization_id, account, customer, reference
    ):
        text = f"Thanks {reference.reference[:9]} {reference.reference[9:]}".lower()
        imported(organization_id, Entry(amount=10_00, text=text))

        match_all()

        assert available(customer) == 10_00

    @pytest.mark.parametrize(
        ("make", "reason", "kind"),
        [
            (lambda _one, _two: {}, "no_reference", "bank_only"),
            (lambda _one, _two: {"text": "RF98123456789012"}, "no_reference", "bank_only"),
            (
                lambda _one, _two: {"reference": "RF18539007547034"},
                "unknown_reference",
                "bank_only",
            ),
            (lambda one, two: {"text": f"{one} {two}"}, "ambiguous_reference", "ambiguous"),
        ],
    )
    def test_whose_owner_is_not_known_goes_to_suspense(
        self, organization_id, account, customer, reference, make, reason, kind
    ):
        other = create_reference(create_customer(organization_id, name="Bo"))
        entry = Entry(amount=50_00, **make(reference.reference, other.reference))
        imported(organization_id, entry)

        assert match_all() == (0, 1)

        assert available(customer) == 0
        assert posted(organization_id, "suspense:in:EUR") == 50_00
        money = UnmatchedMoney.objects.get()
        assert (money.reason, money.state) == (reason, "open")
        assert Break.objects.get().kind == kind
        assert BankLineStatus.objects.get().reason == reason
        assert_books_hold()

    def test_for_a_frozen_customer_goes_to_suspense(
        self, organization_id, account, customer, reference
    ):
        Customer.objects.filter(id=customer.id).update(
            state="frozen", frozen_at=NOW, frozen_by="staff:x"
        )
        imported(organization_id, Entry(amount=50_00, reference=reference.reference))

        match_all()

        assert UnmatchedMoney.objects.get().reason == "customer_not_open"
        assert posted(organization_id, "suspense:in:EUR") == 50_00

    def test_under_another_tenant_s_reference_is_unknown(self, organization_id, account):
        stranger = create_reference(create_customer(create_organization("Other")))
        imported(organization_id, Entry(amount=50_00, reference=stranger.reference))

        match_all()

        assert UnmatchedMoney.objects.get().reason == "unknown_reference"
        assert_books_hold()

    def test_of_several_transactions_posts_once_and_is_shared_out(
        self, organization_id, account, customer, reference
    ):
        details = "".join(
            f'<TxDtls><Amt Ccy="EUR">{amount}</Amt><RmtInf><Ustrd>{text}</Ustrd></RmtInf></TxDtls>'
            for amount, text in (("60.00", reference.reference), ("40.00", "who knows"))
        )
        imported(organization_id, Entry(amount=100_00, details=details))

        assert match_all() == (0, 1)

        assert available(customer) == 60_00
        assert posted(organization_id, "suspense:in:EUR") == 40_00
        assert posted(organization_id, "bank:") == 100_00
        assert Match.objects.get().bank_line_detail_id is not None
        assert_books_hold()


class TestALineOfAClosedMonth:
    """Its month was closed before the statement came: the money is booked, in the next month."""

    @pytest.fixture(autouse=True)
    def _closed(self, organization_id, account):
        close_month(organization_id, date(2026, 3, 1), now=datetime(2026, 4, 2, tzinfo=UTC))

    def entry(self, organization_id):
        [id_] = JournalEntry.objects.filter(organization_id=organization_id).values_list(
            "id", flat=True
        )
        return ledger.get_entry(organization_id=organization_id, entry_id=id_)

    @pytest.mark.parametrize("amount", [125_00, -125_00])
    def test_nobody_knows_is_in_suspense_of_the_next(self, organization_id, account, amount):
        imported(organization_id, Entry(amount=amount))

        assert match_all() == (0, 1)

        entry = self.entry(organization_id)
        assert entry.effective_at == datetime(2026, 4, 1, tzinfo=UTC)
        assert entry.metadata["original_effective_at"] == "2026-03-01T23:00:00+00:00"
        assert posted(organization_id, "bank:") == amount
        assert BankLineStatus.objects.get().reason != "stumbled"
        assert_books_hold()

    def test_of_a_customer_is_theirs_and_received_when_the_bank_says(
        self, organization_id, account, customer, reference
    ):
        imported(organization_id, Entry(amount=125_00, reference=reference.reference))

        assert match_all() == (1, 0)

        entry = self.entry(organization_id)
        assert entry.effective_at == datetime(2026, 4, 1, tzinfo=UTC)
        assert entry.metadata["original_effective_at"] == "2026-03-01T23:00:00+00:00"
        assert available(customer) == 125_00
        assert Payment.objects.get().received_at == datetime(2026, 3, 1, 23, tzinfo=UTC)
        assert_books_hold()

    def test_of_an_open_month_keeps_its_day_and_says_nothing(self, organization_id, account):
        imported(organization_id, Entry(amount=125_00), day=date(2026, 4, 2))

        match_all()

        entry = self.entry(organization_id)
        assert entry.effective_at == datetime(2026, 4, 1, 22, tzinfo=UTC)
        assert "original_effective_at" not in entry.metadata


class TestALineWhoseMonthClosesMeanwhile:
    def test_is_booked_in_one_of_both_and_never_stumbles(self):
        for _ in range(6):
            organization_id = create_organization()
            create_bank_account(organization_id)
            imported(organization_id, *[Entry(amount=n) for n in range(1, 30)])
            close = partial(
                close_month,
                organization_id,
                date(2026, 3, 1),
                now=datetime(2026, 4, 2, tzinfo=UTC),
            )

            race(match_all, close)

            found = JournalEntry.objects.filter(organization_id=organization_id)
            dated = set(found.values_list("effective_at", flat=True))
            march, april = datetime(2026, 3, 1, 23, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
            assert dated <= {march, april}
            assert found.count() == 29
            reasons = BankLineStatus.objects.filter(organization_id=organization_id)
            assert set(reasons.values_list("reason", flat=True)) == {"no_reference"}
            [month] = ledger.periods(organization_id=organization_id)
            view = ledger.view_period(organization_id=organization_id, month=month.month)
            assert view.is_stored
            stored = movements_of(view)
            in_march = sum(range(1, 30)) if march in dated else 0
            assert sum(line.debits for line in stored) == in_march
        assert_books_hold()


class TestADebit:
    def test_nobody_knows_goes_to_suspense_with_a_break(self, organization_id, account):
        imported(organization_id, Entry(amount=-20_00, end_to_end_id="NEVER-OURS"))

        assert match_all() == (0, 1)

        assert posted(organization_id, "suspense:out:EUR") == 20_00
        assert posted(organization_id, "bank:") == -20_00
        assert (Break.objects.get().kind, Break.objects.get().state) == ("bank_only", "open")
        [event] = OutboxEvent.objects.filter(type="break.opened")
        assert event.data["amount"] == -20_00
        assert_books_hold()


class TestMatching:
    def test_again_changes_nothing(self, organization_id, account, customer, reference):
        imported(organization_id, Entry(amount=5_00, reference=reference.reference))
        match_all()
        imported(organization_id, Entry(amount=5_00, reference=reference.reference))

        LineQueue.objects.update(state="pending")
        assert match_all() == (0, 0)

        assert available(customer) == 5_00
        assert Payment.objects.count() == 1

    def test_in_many_chunks_takes_every_line_once(
        self, organization_id, account, customer, reference, monkeypatch
    ):
        monkeypatch.setattr("apps.reconciliation.operations._matching.CHUNK", 7)
        entries = [Entry(amount=1_00, reference=reference.reference)] * 20
        imported(organization_id, *entries)

        assert match_all() == (20, 0)

        assert available(customer) == 20_00
        assert_books_hold()

    def test_goes_on_where_a_worker_died(
        self, organization_id, account, customer, reference, monkeypatch
    ):
        monkeypatch.setattr("apps.reconciliation.operations._matching.CHUNK", 7)
        imported(organization_id, *[Entry(amount=1_00, reference=reference.reference)] * 20)
        [queue] = work.claim_due(LineQueue, limit=1, lease_seconds=60)
        operations.match_chunk(
            organization_id=organization_id,
            queue_id=queue.id,
            lease_token=queue.lease_token,
            actor=ACTOR,
            now=NOW,
        )

        # The worker is gone; its lease ends, and another one takes the account.
        # A second ago: the clock of a virtual machine may step back by a little.
        LineQueue.objects.update(next_attempt_at=Now() - timedelta(seconds=1))

        assert match_all() == (13, 0)
        assert available(customer) == 20_00
        assert_books_hold()

    def test_gives_a_long_account_back_and_goes_on(
        self, organization_id, account, customer, reference, monkeypatch
    ):
        monkeypatch.setattr("apps.reconciliation.operations._matching.CHUNK", 3)
        imported(organization_id, *[Entry(amount=1_00, reference=reference.reference)] * 20)
        [queue] = work.claim_due(LineQueue, limit=1, lease_seconds=60)

        turn = operations.match_bank_lines(
            organization_id=organization_id, queue=queue, seconds_max=0, actor=ACTOR, now=NOW
        )

        # Its time is over after a chunk: the row is due again, whoever works it then.
        assert (turn.matched, turn.is_done) == (3, False)
        work.give_back(LineQueue, [queue])
        assert match_all(seconds_max=0) == (17, 0)
        assert available(customer) == 20_00
        assert LineQueue.objects.get().state == "done"

    def test_by_two_workers_matches_each_line_once(
        self, organization_id, account, customer, reference
    ):
        imported(organization_id, *[Entry(amount=1_00, reference=reference.reference)] * 30)

        outcomes = race(match_all, match_all, match_all)

        assert sum(matched for matched, _ in outcomes) == 30
        assert available(customer) == 30_00
        assert Match.objects.count() == 30
        assert_books_hold()

    def test_stops_for_a_worker_whose_lease_was_lost(self, organization_id, account):
        imported(organization_id, Entry(amount=1_00))
        [queue] = work.claim_due(LineQueue, limit=1, lease_seconds=60)
        import_file(organization_id, camt053(Made(entries=(), opening=1_00, statement_id="S2")))
        imported(organization_id, Entry(amount=2_00), opening=1_00, statement_id="S3")

        progress = operations.match_bank_lines(
            organization_id=organization_id, queue=queue, actor=ACTOR, now=NOW
        )

        assert (progress.matched, progress.in_suspense) == (0, 0)
        assert match_all() == (0, 2)

    def test_of_a_notified_line_posts_it_once(self, organization_id, account, customer, reference):
        entry = Entry(amount=9_00, reference=reference.reference, account_servicer_ref="R1")
        import_file(organization_id, camt054(Made(entries=(entry,), statement_id="N")))
        match_all()
        imported(organization_id, entry, Entry(amount=-1_00))
        match_all()

        assert available(customer) == 9_00
        assert posted(organization_id, "bank:") == 8_00
        assert_books_hold()

    def test_takes_lines_in_the_order_of_their_days(self, organization_id, account):
        days = [date(2026, 3, 5), date(2026, 3, 3), date(2026, 3, 4)]
        imported(organization_id, *[Entry(amount=1_00 + n, day=day) for n, day in enumerate(days)])

        match_all()

        amounts = [money.amount_minor for money in UnmatchedMoney.objects.order_by("id")]
        assert amounts == [1_01, 1_02, 1_00]


class TestAGap:
    def test_is_a_break_until_the_missing_statement_comes(self, organization_id, account):
        day = Made(entries=(Entry(amount=1_00),), opening=0, day=date(2026, 3, 2))
        later = replace(day, opening=3_00, statement_id="S3", day=date(2026, 3, 4))
        between = replace(
            day,
            opening=1_00,
            entries=(Entry(amount=2_00),),
            statement_id="S2",
            day=date(2026, 3, 3),
        )
        import_file(organization_id, camt053(day))
        import_file(organization_id, camt053(later))
        [found] = Break.objects.filter(kind="statement_missing")

        import_file(organization_id, camt053(between))

        found.refresh_from_db()
        assert (found.state, found.resolution) == ("resolved", "explained")


@needs_real_files
@pytest.mark.bank_files
class TestRealFiles:
    def test_nordea_s_six_lines_are_posted_once(self, organization_id):
        create_bank_account(organization_id, identification="FI8529501800030574")
        content = real_file("camt053/nordea-example.xml")

        import_file(organization_id, content)
        first = match_all()
        import_file(organization_id, content)
        second = match_all()

        assert (first, second) == ((0, 6), (0, 0))
        assert posted(organization_id, "bank:") == 8_600_00
        assert BankLine.objects.count() == 6
        assert_books_hold()

    @pytest.mark.parametrize("order", [("camt053", "camt054"), ("camt054", "camt053")])
    def test_finland_s_ledger_is_its_closing_and_what_was_notified(self, organization_id, order):
        create_bank_account(organization_id, identification="FI7433010001222090")

        for folder in order:
            import_file(organization_id, real_file(f"{folder}/finland-sample.xml"))
            match_all()

        assert posted(organization_id, "bank:") == 23_644_83 - 10_000_00 - 1_000_00
        assert_books_hold()


class TestTheDatabase:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM reconciliation_match",
            "UPDATE reconciliation_match_leg SET target_id = gen_random_uuid()",
            "UPDATE payments_payment SET amount_minor = 1",
            "DELETE FROM payments_payment",
            "UPDATE payments_virtual_reference SET reference = 'RF12345'",
            "UPDATE banking_line_status SET state = 'new', entry_id = NULL",
            """INSERT INTO reconciliation_match (id, organization_id, bank_line_id, rule, state,
               amount_minor, currency, created_at) SELECT gen_random_uuid(), organization_id,
               bank_line_id, rule, 'live', 1, currency, created_at FROM reconciliation_match""",
        ],
    )
    def test_refuses_a_second_match_and_changes(
        self, organization_id, account, customer, reference, statement
    ):
        imported(organization_id, Entry(amount=5_00, reference=reference.reference))
        match_all()

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(statement)
