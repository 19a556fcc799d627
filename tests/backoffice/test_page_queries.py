"""What the ledger's screens ask of Postgres: ten statements at most, whatever they show."""

from datetime import date, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.ledger import operations
from apps.ledger.models import FxTransfer, JournalEntry, Period
from apps.ledger.operations import AccountChange
from apps.ledger.queries import account_ids, view_whole
from apps.ledger.rules import AccountStatus, Leg, PlaceHold, PostEntry
from tests.accounts import factories as accounts
from tests.backoffice.books import House as Books
from tests.backoffice.test_corrections import House
from tests.ledger.exchanges import exchange
from tests.ledger.factories import capture_at_once, committed, move, open_account, post
from tests.ledger.histories import seal
from tests.ledger.tampering import corrupt
from tests.ledger.test_reverse_fx_transfer import undo_alone

pytestmark = pytest.mark.django_db(transaction=True)

# The session, the person, the roles.
FIXED = 3
BUDGET = 10
# Of an account's page, which is its statement.
STATEMENT_BUDGET = 8


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def books() -> Books:
    return Books()


def asked(url: str, *, role: str = "finance_maker") -> int:
    """Return how many statements a page takes whoever opens it for the first time."""
    client = Client()
    client.force_login(accounts.create_staff(role))
    with CaptureQueriesContext(connection) as captured:
        assert client.get(f"/admin/{url}").status_code == 200
    return len(captured)


def entry_page(entry) -> str:
    return f"ledger/journalentry/{encode_id('je', entry)}/"


def account_page(account) -> str:
    return f"ledger/ledgeraccount/{encode_id('la', account)}/"


def annotate(organization, entry, *, times: int = 1) -> None:
    """Have people from finance say something of an entry, each time another one."""
    for number in range(times):
        operations.annotate_entry(
            organization_id=organization, entry_id=entry, metadata={"order": str(number)},
            idempotency_key=f"said-{number}", actor=person(), now=clock.now(),
        )  # fmt: skip


def person() -> Actor:
    return Actor.staff(accounts.create_staff("finance_maker").pk)


class TestAJournalEntry:
    # The entry; what was done to it; its postings, with all that stands on it; its corrections.
    PLAIN = FIXED + 4

    @pytest.mark.parametrize("role", ["finance_maker", "finance_approver", "auditor"])
    def test_of_a_transfer(self, house, role):
        assert asked(entry_page(house.gift), role=role) == self.PLAIN

    def test_that_is_sealed(self, house):
        seal(house.id)

        assert asked(entry_page(house.gift)) == self.PLAIN

    def test_with_many_postings(self, house):
        many = [open_account(house.id, f"wallets:w{n}:EUR", floor=None) for n in range(40)]
        entry = PostEntry(
            id=new_id(), currency="EUR", kind="split",
            legs=(*(Leg(one, -1) for one in many), Leg(house.fees, 40)),
        )  # fmt: skip
        post(house.id, entry)

        assert asked(entry_page(entry.id)) == self.PLAIN

    def test_that_captured_a_hold(self, house):
        _, entry = capture_at_once(house.id, house.ann, house.bob)

        assert asked(entry_page(entry)) == self.PLAIN

    def test_whose_reversal_waits_and_that_was_reversed(self, house):
        waits = house.reverse()
        # Who asked stands in its history, with the name; then so does who agreed.
        assert asked(entry_page(house.gift)) == self.PLAIN

        house.decide(waits)

        assert asked(entry_page(house.gift)) == self.PLAIN

    def test_posted_by_hand(self, house):
        house.decide(house.goodwill())
        posted = house.entries().get(kind=operations.ADJUSTMENT)

        assert asked(entry_page(posted.id)) == self.PLAIN + 1

    @pytest.mark.parametrize("times", [1, 30])
    def test_of_which_several_people_said_something(self, house, times):
        annotate(house.id, house.gift, times=times)

        # The versions, and the names.
        assert asked(entry_page(house.gift)) == self.PLAIN + 2

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    def test_of_an_exchange_at_its_most(self, house, side):
        entry = getattr(changed(house), side)
        assert asked(entry_page(entry)) == self.PLAIN + 1

        annotate(house.id, entry, times=2)
        waits = house.reverse(entry=entry)
        assert asked(entry_page(entry)) == self.PLAIN + 3

        house.decide(waits)
        assert asked(entry_page(entry)) == self.PLAIN + 3 == BUDGET

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    def test_that_undid_a_side_of_an_exchange_by_hand_at_its_most(self, house, side):
        fx = changed(house)
        house.decide(house.reverse(entry=fx.sold_entry_id))
        undoing = house.entries().get(reverses_id=getattr(fx, side)).id
        annotate(house.id, undoing, times=2)

        assert asked(entry_page(undoing)) == self.PLAIN + 3 == BUDGET

    def test_asks_no_more_in_its_forms(self, house):
        entry = changed(house).sold_entry_id

        for act in ("reverse", "adjust"):
            assert asked(f"{entry_page(entry)}act/{act}/") <= BUDGET


def changed(house) -> FxTransfer:
    dollars = open_account(house.id, "wallets:ann:USD")
    return FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))


class TestWhatIsReadAtOnce:
    """`view_whole` says what the operation says, of one read."""

    @staticmethod
    def refusals(house, entry) -> list[str]:
        row = JournalEntry.objects.get(id=entry)
        told = operations.why_not_reversed(view_whole(entry=row, with_undone=False))
        try:
            operations.prepare_reversal(organization_id=house.id, entry_id=entry)
        except Refusal as refusal:
            return [f"{one.code} {one.message}" for one in (told, refusal)]
        assert told is None
        return []

    def test_of_what_can_be_undone_is_nothing(self, house):
        fx = changed(house)

        for entry in (house.gift, fx.sold_entry_id, fx.bought_entry_id):
            assert self.refusals(house, entry) == []

    def test_names_the_account_that_no_correction_reaches(self, house):
        bank = open_account(house.id, "bank:ba_1:EUR", type_="asset", floor=None, internal=True)
        other = open_account(house.id, "bank:ba_2:EUR", type_="asset", floor=None, internal=True)
        post(house.id, move(other, bank, 1_00))
        entry = house.entries().latest("id").id

        first, second = self.refusals(house, entry)

        assert first == second
        assert "bank:ba_1:EUR is moved by Kassa's own acts only" in first

    def test_of_an_exchange_names_that_of_its_other_side(self, house):
        fx = changed(house)
        corrupt(
            "UPDATE ledger_balance SET internal = TRUE WHERE id = %s",
            account_ids(organization_id=house.id, codes=["wallets:ann:USD"])["wallets:ann:USD"],
        )

        first, second = self.refusals(house, fx.sold_entry_id)

        assert first == second
        assert "wallets:ann:USD" in first

    def test_leaves_out_the_side_that_was_undone_alone(self, house):
        fx = changed(house)
        undo_alone(house.id, fx.bought_entry_id)

        assert self.refusals(house, fx.sold_entry_id) == []
        first, second = self.refusals(house, fx.bought_entry_id)
        assert first == second


class TestAnAccount:
    # The account; its balance with what is held; its history; opening and closing; the lines.
    PLAIN = FIXED + 5

    @pytest.mark.parametrize("clock_", ["effective", "recorded"])
    def test_of_a_client(self, books, clock_):
        assert asked(f"{account_page(books.ann)}?clock={clock_}") == self.PLAIN

    def test_at_its_most(self, books):
        post(
            books.id,
            *(
                PlaceHold(id=new_id(), debit_account_id=books.ann, credit_account_id=books.bob,
                          currency="EUR", amount_minor=1_00)
                for _ in range(3)
            ),
        )  # fmt: skip
        committed(operations.change_account)(
            organization_id=books.id, account_id=books.ann,
            change=AccountChange(status=AccountStatus.FROZEN, reason="Asked for"),
            actor=person(), now=clock.now(),
        )  # fmt: skip

        # Those for whom it is held come with it, and who froze it with its history.
        assert asked(account_page(books.ann)) == self.PLAIN == STATEMENT_BUDGET

    def test_asks_no_more_in_its_forms(self, books):
        for act in ("export", "adjust"):
            assert asked(f"{account_page(books.ann)}act/{act}/") <= BUDGET


class TestTheOtherScreens:
    @pytest.mark.parametrize(
        ("url", "statements"),
        [
            ("ledger/ledgeraccount/", 5),
            ("ledger/ledgeraccount/?under=customers", 5),
            ("ledger/ledgeraccount/?flat=1", 6),
            ("ledger/journalentry/", 7),
            ("ledger/journalentry/?kind=fee", 7),
            ("ledger/hold/", 5),
            ("ledger/hold/?status=all", 5),
            ("ledger/chainhead/", 6),
            ("ledger/balancemonitor/", 5),
            ("trial-balance/", 5),
            # Three of them begin and end the snapshot of a month that is open.
            ("trial-balance/?period=2026-06", 10),
            ("ledger/period/", 9),
        ],
    )
    def test_take(self, books, url, statements):
        assert asked(url) == statements <= BUDGET

    def test_of_a_month_take_in_each_of_its_states(self, books):
        may = date(2026, 5, 1)
        books.close(may)
        [row] = Period.objects.filter(organization_id=books.id)
        page = f"ledger/period/{encode_id('per', row.id)}/"

        closed = [asked(page), asked("trial-balance/?period=2026-05"), asked("ledger/period/")]
        committed(operations.reopen_period)(
            organization_id=books.id, period_id=row.id, requested_by=f"staff:{books.maker.pk}",
            approved_by=f"staff:{new_id()}", reason="Late", actor=Actor.job("tests"),
            now=clock.now(),
        )  # fmt: skip
        # It is not sealed any more, so that it goes on closing.
        post(books.id, move(books.bank, books.ann, 1_00, effective_at=row.starts_at + timedelta(1)))
        opened = asked(page)
        assert books.begin(may).state == "closing"

        assert (closed, opened, asked(page)) == ([8, 6, 9], 10, 10)
