"""One statement writes the postings of many entries: a single wrong one refuses all of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError

from apps.core.ids import new_id
from apps.ledger.models import Balance, Period, Posting
from tests.ledger.factories import create_organization, fund, open_account, post_transfer
from tests.ledger.test_guards import constraint, insert_entry, times_of, write_postings

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)


@pytest.fixture
def books():
    """An organisation with two accounts in euros and two in dollars, and one that moved twice."""
    organization = create_organization()
    ann, bob = (open_account(organization, f"wallets:{who}:EUR") for who in ("ann", "bob"))
    usd, other = (open_account(organization, f"wallets:{who}:USD") for who in ("ann", "bob"))
    fund(organization, ann, 100_00)
    post_transfer(organization, ann, bob, 10_00, key="k")
    return organization, ann, bob, usd, other


def entry_of(organization, entry, *legs: tuple, first: int = 1, later: int = 0) -> list[tuple]:
    """Return an entry's rows, each the next one of its account, or so many behind that."""
    versions = dict(
        Balance.objects.filter(id__in=[leg[0] for leg in legs]).values_list("id", "version")
    )
    return [
        (organization, entry, number, account, amount, currency, versions[account] + 1 + later, 0)
        for number, (account, amount, currency) in enumerate(legs, first)
    ]


def written(*rows: tuple, **times: tuple) -> Callable[[], None]:
    """Return what writes them, with their accounts' balances moved as far as they go."""
    accounts = [row[3] for row in rows]
    moved = {account: accounts.count(account) for account in accounts}
    return lambda: write_postings(*rows, moved=moved, **times)


def refused_by(write: Callable[[], None]) -> tuple[str, str]:
    """Return the constraint that refused, and what it says; nothing was written."""
    before = Posting.objects.count()
    with pytest.raises(IntegrityError) as refused:
        write()
    assert Posting.objects.count() == before
    return constraint(refused), refused.value.__cause__.diag.message_primary


def put_period(organization, month: int, state: str) -> None:
    """Put a month of 2026 that was closed, and that may have been opened again."""
    since, until = (datetime(2026, number, 1, tzinfo=UTC) for number in (month, month + 1))
    Period.objects.create(
        id=new_id(), organization_id=organization, month=since.date(), starts_at=since,
        ends_at=until, state=state, closings=1, closed_at=until if state == "closed" else None,
        requested_by="staff:mara", approved_by="staff:anton",
    )  # fmt: skip


def insert_twin(organization, entry, *, id_=None) -> object:
    """Insert another entry at the very times of one."""
    effective_at, recorded_at = times_of(entry)
    return insert_entry(organization, id_=id_, effective_at=effective_at, recorded_at=recorded_at)


class TestManyEntries:
    def test_are_taken_where_all_are_right(self, books):
        organization, ann, bob, usd, other = books
        one, two = insert_entry(organization), insert_entry(organization)

        written(
            *entry_of(organization, one, (ann, 5, "EUR"), (bob, -5, "EUR")),
            *entry_of(organization, two, (usd, 5, "USD"), (other, -5, "USD")),
        )()

        assert Posting.objects.filter(entry_id__in=[one, two]).count() == 4

    @pytest.mark.parametrize("is_first", [True, False])
    def test_of_which_one_is_off_are_refused(self, books, is_first):
        organization, ann, bob, usd, other = books
        off, right = insert_entry(organization), insert_entry(organization)
        entries = [
            entry_of(organization, off, (ann, 5, "EUR"), (bob, -4, "EUR")),
            entry_of(organization, right, (usd, 5, "USD"), (other, -5, "USD")),
        ]

        name, said = refused_by(
            written(*(entries[0] + entries[1] if is_first else entries[1] + entries[0]))
        )

        assert (name, said) == (
            "journal_entry_is_balanced", f"journal entry {off} is off by 1 EUR"
        )  # fmt: skip

    def test_that_are_off_by_as_much_do_not_balance_each_other(self, books):
        organization, ann, bob, usd, other = books
        one, two = insert_entry(organization), insert_entry(organization)

        name, _ = refused_by(
            written(
                *entry_of(organization, one, (ann, 5, "EUR"), (usd, -5, "USD")),
                *entry_of(organization, two, (bob, -5, "EUR"), (other, 5, "USD")),
            )
        )

        assert name == "journal_entry_is_balanced"

    def test_of_one_id_in_two_organizations_do_not_balance_each_other(self, books):
        """An id is an organisation's own: another may have an entry by the same."""
        organization, ann, _, usd, _ = books
        stranger = create_organization("Other")
        theirs = [open_account(stranger, f"wallets:x:{currency}") for currency in ("EUR", "USD")]
        entry = insert_entry(organization)
        insert_twin(stranger, entry, id_=entry)

        name, _ = refused_by(
            written(
                *entry_of(organization, entry, (ann, 5, "EUR"), (usd, -5, "USD")),
                *entry_of(stranger, entry, (theirs[0], -5, "EUR"), (theirs[1], 5, "USD")),
            )
        )

        assert name == "journal_entry_is_balanced"

    def test_of_which_one_is_not_there_are_refused(self, books):
        organization, ann, bob, usd, other = books
        nobody = new_id()
        there = insert_entry(organization)

        name, said = refused_by(
            written(
                *entry_of(organization, there, (ann, 5, "EUR"), (bob, -5, "EUR")),
                *entry_of(organization, nobody, (usd, 5, "USD"), (other, -5, "USD")),
            )
        )

        assert name == "posting_stays_in_its_organization"
        assert f"a posting of journal entry {nobody} on" in said

    def test_of_which_one_is_of_a_closed_month_are_refused_by_its_name(self, books):
        """Neither another organisation's month is named, nor one that was opened again."""
        organization, ann, bob, usd, other = books
        stranger = create_organization("Other")
        for owner, month, state in (
            (stranger, 10, "closed"), (organization, 8, "closed"), (organization, 9, "open"),
        ):  # fmt: skip
            put_period(owner, month, state)
        in_time = insert_entry(organization)
        late = insert_entry(organization, effective_at="2026-08-15")

        name, said = refused_by(
            written(
                *entry_of(organization, in_time, (ann, 5, "EUR"), (bob, -5, "EUR")),
                *entry_of(organization, late, (usd, 5, "USD"), (other, -5, "USD")),
            )
        )

        assert name == "journal_entry_is_in_an_open_period"
        assert said == f"journal entry {late} is of 2026-08-01, which is closed"


class TestAnEntry:
    @pytest.mark.parametrize("numbers", [(0, 2), (1, 3)])
    def test_is_numbered_from_one_on_without_a_gap(self, books, numbers):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        rows = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))

        name, _ = refused_by(
            written(*((*row[:2], n, *row[3:]) for row, n in zip(rows, numbers, strict=True)))
        )

        assert name == "journal_entry_is_written_once"

    def test_of_another_organization_is_refused(self, books):
        organization, ann, bob, *_ = books
        theirs = insert_entry(create_organization("Other"))

        name, said = refused_by(
            written(*entry_of(organization, theirs, (ann, 5, "EUR"), (bob, -5, "EUR")))
        )

        assert name == "posting_stays_in_its_organization"
        assert f"a posting of journal entry {theirs} on" in said

    def test_in_another_currency_than_its_accounts_is_refused(self, books):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)

        name, _ = refused_by(
            written(*entry_of(organization, entry, (ann, 5, "USD"), (bob, -5, "USD")))
        )

        assert name == "posting_stays_in_its_organization"

    @pytest.mark.parametrize("late", [(SECOND, 0 * SECOND), (0 * SECOND, SECOND)])
    def test_whose_postings_have_another_time_is_refused(self, books, late):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        effective_at, recorded_at = times_of(entry)
        rows = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))

        name, said = refused_by(
            written(*rows, times=(effective_at + late[0], recorded_at + late[1]))
        )

        assert name == "posting_stays_in_its_organization"
        assert said.endswith("at those times")

    def test_has_both_of_its_postings(self, books):
        """Two that balance are no entry if each is of another one."""
        organization, ann, bob, *_ = books
        one = insert_entry(organization)
        two = insert_twin(organization, one)
        first, _ = entry_of(organization, one, (ann, 5, "EUR"), (bob, -5, "EUR"))
        _, second = entry_of(organization, two, (ann, 5, "EUR"), (bob, -5, "EUR"))

        name, _ = refused_by(written(first, second))

        assert name == "journal_entry_is_balanced"

    def test_has_both_of_them_in_one_organization(self, books):
        organization, ann, bob, *_ = books
        stranger = create_organization("Other")
        theirs = open_account(stranger, "wallets:x:EUR")
        entry = insert_entry(organization)
        insert_twin(stranger, entry, id_=entry)
        first, _ = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))
        _, second = entry_of(stranger, entry, (bob, 5, "EUR"), (theirs, -5, "EUR"))

        name, _ = refused_by(written(first, second))

        assert name == "journal_entry_is_balanced"

    @pytest.mark.parametrize("late", [(SECOND, 0 * SECOND), (0 * SECOND, SECOND)])
    @pytest.mark.parametrize("place", [0, 1])
    def test_has_both_of_them_at_its_times(self, books, place, late):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        rows = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))
        times = [at + by for at, by in zip(times_of(entry), late, strict=True)]
        rows[place] = (*rows[place], *times)

        name, _ = refused_by(written(*rows))

        assert name == "posting_stays_in_its_organization"

    @pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
    def test_is_taken_in_either_order(self, books, numbers):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        rows = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))

        written(*((*row[:2], n, *row[3:]) for row, n in zip(rows, numbers, strict=True)))()

        assert Posting.objects.filter(entry_id=entry).count() == 2

    @pytest.mark.parametrize("state", ["closed", "closing"])
    def test_of_a_month_that_is_closed_or_being_closed_is_refused(self, books, state):
        organization, ann, bob, *_ = books
        put_period(organization, 8, state)
        late = insert_entry(organization, effective_at="2026-08-15")

        name, _ = refused_by(
            written(*entry_of(organization, late, (ann, 5, "EUR"), (bob, -5, "EUR")))
        )

        assert name == "journal_entry_is_in_an_open_period"

    @pytest.mark.parametrize("behind", [0, 1])
    def test_goes_on_from_where_each_account_stands(self, books, behind):
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        rows = entry_of(organization, entry, (ann, 5, "EUR"), (bob, -5, "EUR"))
        rows[behind] = (*rows[behind][:6], rows[behind][6] + 1, 0)

        name, _ = refused_by(written(*rows))

        assert name == "posting_versions_have_no_gap"

    def test_takes_no_version_that_was_given(self, books):
        """The last one of each account, which is where its balance stands."""
        organization, ann, bob, *_ = books
        entry = insert_entry(organization)
        again = entry_of(organization, entry, (bob, 5, "EUR"), (ann, -5, "EUR"), later=-1)

        name, _ = refused_by(lambda: write_postings(*again, moved={}))

        assert name == "posting_account_version_is_unique"
