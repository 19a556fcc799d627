from datetime import date, time
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.banking import errors, operations, queries
from apps.banking.models import BankAccount, BankFile, CalendarDay
from apps.banking.operations import BankTerms, Holder
from apps.core.ids import encode_id, new_id
from apps.core.transactions import outermost
from apps.ledger import queries as ledger
from tests.banking.factories import ACTOR, HOLDER, NOW, create_bank_account, create_organization
from tests.banking.statements import IBAN
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def organization_id():
    return create_organization()


@pytest.fixture
def connected(organization_id):
    return operations.add_bank_connection(
        organization_id=organization_id,
        name="Our bank",
        channel="manual",
        idempotency_key="connection",
        actor=ACTOR,
        now=NOW,
    )


def add(connected, *, key=None, **more):
    details = {"identification": IBAN, "currency": "EUR", "holder": HOLDER, "name": "Main", **more}
    return operations.add_bank_account(
        organization_id=connected.organization_id,
        connection_id=connected.id,
        idempotency_key=key or new_id().hex,
        actor=ACTOR,
        now=NOW,
        **details,
    )


class TestAddBankAccount:
    def test_opens_its_ledger_account_and_seals_its_number(self, connected):
        account = add(connected, identification="de89 3704 0044 0532 0130 00")

        code = f"bank:{encode_id('ba', account.id)}:EUR"
        ids = ledger.account_ids(organization_id=connected.organization_id, codes=[code])
        assert ids[code] == account.ledger_account_id
        assert account.identification_tail == "3000"
        stored = BankAccount.objects.get()
        assert b"DE89" not in bytes(stored.identification_sealed)
        assert queries.get_identification(account=stored) == IBAN

    def test_is_repeated_by_its_key(self, connected):
        assert add(connected, key="one").id == add(connected, key="one").id
        assert BankAccount.objects.count() == 1

    def test_is_refused_a_second_time(self, connected):
        add(connected)

        with pytest.raises(errors.BankAccountExists):
            add(connected)

        assert add(connected, currency="USD").currency == "USD"

    def test_at_once_is_done_once(self, connected):
        outcomes = race(*[partial(add, connected, key=f"key-{n}") for n in range(4)])

        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["BankAccount", *["BankAccountExists"] * 3]
        assert BankAccount.objects.count() == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"currency": "XQQ"},
            {"terms": BankTerms(zone="Mars/Olympus")},
            {"identification": ""},
            {"identification": "X" * 35},
            {"holder": Holder(name="", town="Berlin", country="DE")},
            {"holder": Holder(name="A", town="Berlin", country="Germany")},
        ],
    )
    def test_refuses_what_cannot_be_right(self, connected, wrong):
        with pytest.raises(errors.InvalidBankAccount):
            add(connected, **wrong)

        assert BankAccount.objects.count() == 0

    def test_refuses_another_tenant_s_connection(self, connected):
        connected.organization_id = create_organization("Other")

        with pytest.raises(errors.BankConnectionNotFound):
            add(connected)

    def test_is_what_payouts_leave_from(self, connected):
        account = add(
            connected,
            bic="cobadeff",
            holder=Holder(name="N", town="Turku", country="FI", street="Road"),
            terms=BankTerms(zone="Europe/Helsinki", cut_off=time(15)),
        )

        found = queries.get_payout_account(
            organization_id=connected.organization_id, currency="EUR"
        )

        assert (found.id, found.iban, found.bic) == (account.id, IBAN, "COBADEFF")
        assert (found.address.town, found.address.street, found.address.lines) == (
            "Turku",
            "Road",
            (),
        )
        assert (found.zone, found.cut_off) == ("Europe/Helsinki", time(15))
        with pytest.raises(errors.BankAccountNotFound):
            queries.get_payout_account(organization_id=connected.organization_id, currency="SEK")


class TestTheCalendar:
    def test_knows_t2_holidays_and_weekends(self, connected):
        add(connected)
        days = queries.get_open_days()

        closed = [date(2026, 4, 3), date(2026, 12, 25), date(2027, 3, 29), date(2026, 11, 28)]
        assert not any(days.is_open(day) for day in closed)
        assert days.is_open(date(2026, 12, 24))
        assert days.next_open(date(2026, 12, 25)) == date(2026, 12, 28)

    @pytest.mark.parametrize("day", [date(2024, 12, 31), date(2032, 1, 1)])
    def test_takes_no_unknown_year_for_open(self, connected, day):
        add(connected)

        with pytest.raises(errors.CalendarNotSeeded):
            queries.get_open_days().is_open(day)

    def test_is_seeded_once_and_then_append_only(self, connected):
        add(connected)
        seeded = CalendarDay.objects.count()

        assert operations.seed_calendar(now=NOW) == 0
        assert (seeded, CalendarDay.objects.count()) == (42, 42)
        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute("DELETE FROM banking_calendar_day")


class TestStoreOutgoingFile:
    def store(self, account, *, message_id="M1", content=b"<a/>"):
        return outermost(operations.store_outgoing_file)(
            organization_id=account.organization_id,
            bank_account_id=account.id,
            kind="pain.001",
            version="pain.001.001.09",
            message_id=message_id,
            content=content,
            actor=ACTOR,
            now=NOW,
        )

    def test_stores_one_of_two_equal_writers(self, organization_id):
        account = create_bank_account(organization_id)

        files = race(partial(self.store, account), partial(self.store, account))

        assert len({file.id for file in files}) == 1
        assert BankFile.objects.count() == 1

    def test_serves_the_bytes_that_were_stored(self, organization_id):
        account = create_bank_account(organization_id)
        file = self.store(account, content=b"<bytes/>")

        content = queries.get_bank_file_content(
            organization_id=organization_id, bank_file_id=file.id
        )

        assert content == b"<bytes/>"
        with pytest.raises(errors.BankFileNotFound):
            queries.get_bank_file_content(
                organization_id=create_organization("Other"), bank_file_id=file.id
            )

    def test_refuses_other_bytes_under_a_message_id(self, organization_id):
        account = create_bank_account(organization_id)
        self.store(account)

        with pytest.raises(errors.FileMessageIdReused):
            self.store(account, content=b"<b/>")

        assert BankFile.objects.count() == 1
