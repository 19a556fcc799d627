"""Pages of balances as of an instant, held against the whole list of them."""

from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger import queries
from apps.ledger.operations import AccountSpec, open_accounts
from apps.ledger.queries import (
    BalanceTotal,
    PageAsked,
    _balance_pages,
    _chosen_accounts,
    _history,
    _trial_balance_pages,
)
from tests.ledger.factories import (
    NOW,
    balance,
    committed,
    create_organization,
    open_account,
    post_transfer,
)
from tests.ledger.histories import Move, balances_at, write_history
from tests.ledger.test_trial_balance_pages import (
    EXAMPLES,
    INSTANTS,
    NARROWED,
    START,
    TYPES,
    drawn_moves,
    pages,
    write_books,
)
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["few", "many"])
def ways(request, monkeypatch) -> None:
    """Read as of few accounts, and as of thousands."""
    if request.param == "many":
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", 0)


@pytest.mark.usefixtures("ways")
class TestPages:
    @EXAMPLES
    @given(
        drawn=drawn_moves(), sealed=st.integers(0, 20), at=INSTANTS,
        clock=st.sampled_from(["effective", "recorded"]), narrowed=NARROWED,
        type_=st.sampled_from(["", *TYPES]), limit=st.integers(1, 5),
    )  # fmt: skip
    def test_are_the_whole_list_and_its_sums(
        self, drawn, sealed, at, clock, narrowed, type_, limit
    ):
        organization = write_books(drawn, sealed)

        lines, totals = pages(
            lambda ask: queries.page_of_balances_at(
                organization_id=organization, at=at, clock=clock, ask=ask, account_type=type_
            ),
            limit=limit, **narrowed,
        )  # fmt: skip

        whole = [
            line
            for line in balances_at(
                organization, at, clock=clock, code_prefix=narrowed["code_prefix"]
            )
            if line.currency == (narrowed["currency"] or line.currency)
            and line.type == (type_ or line.type)
        ]
        assert lines == whole
        assert totals == [
            BalanceTotal(kind, currency, sum(line.posted for line in whole if key(line) == of))
            for of in sorted({key(line) for line in whole})
            for currency, kind in [of]
        ]

    def test_of_one_account_are_its_line(self):
        organization, _, bob = wallets()

        page = queries.page_of_balances_at(
            organization_id=organization, at=START, clock="effective", ask=PageAsked(limit=1),
            account_id=bob,
        )  # fmt: skip

        assert [(line.account_id, line.posted) for line in page.lines] == [(bob, 7)]
        assert (page.has_more, page.totals) == (False, [BalanceTotal("liability", "EUR", 7)])

    def test_behind_and_before_what_is_not_in_the_list_there_are_none(self):
        organization, ann, bob = wallets()
        _, other, _ = wallets()
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None)

        def read(**place):
            return queries.page_of_balances_at(
                organization_id=organization, at=START, clock="recorded",
                ask=PageAsked(limit=5, code_prefix="wallets", **place),
            )  # fmt: skip

        assert [line.account_id for line in read(after=ann).lines] == [bob]
        assert [line.account_id for line in read(before=bob).lines] == [ann]
        for empty in (read(after=bob), read(before=ann)):
            assert (empty.lines, empty.has_more, empty.has_previous) == ([], False, False)
        for way in ("after", "before"):
            assert read(**{way: bank}) is read(**{way: other}) is None


def key(line) -> tuple[str, str]:
    return line.currency, line.type


def wallets() -> tuple:
    organization = create_organization()
    ann, bob = (
        open_account(organization, f"wallets:{name}:EUR", floor=None) for name in ("ann", "bob")
    )
    write_history(organization, [Move(ann, bob, 7, START, START)])
    return organization, ann, bob


class TestOneInstant:
    """What is posted between a page's lines and its totals is in neither."""

    def interrupt(self, monkeypatch, module, name: str, organization, ann, bob) -> None:
        """Have somebody post as the module begins to add up."""
        add_up = getattr(module, name)

        def interrupted(*args, **asked):
            posting = Asking(partial(post_transfer, organization, ann, bob, 30, key="late"))
            assert posting.ended().answer.entry_id
            return add_up(*args, **asked)

        monkeypatch.setattr(module, name, interrupted)

    @pytest.mark.parametrize("clock", ["effective", "recorded"])
    def test_of_balances(self, monkeypatch, clock):
        organization, ann, bob = wallets()
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", 0)
        self.interrupt(monkeypatch, _balance_pages, "_sums_of_many", organization, ann, bob)

        page = queries.page_of_balances_at(
            organization_id=organization, at=NOW + timedelta(days=9_000), clock=clock,
            ask=PageAsked(limit=9, code_prefix="wallets:bob"),
        )  # fmt: skip

        assert [line.posted for line in page.lines] == [7]
        assert page.totals == [BalanceTotal("liability", "EUR", 7)]
        assert balance(organization, bob).posted == 37

    @pytest.mark.parametrize("few", [200, 0])
    def test_of_the_trial_balance(self, monkeypatch, few):
        organization, ann, bob = wallets()
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", few)
        self.interrupt(monkeypatch, _trial_balance_pages, "totals_between", organization, ann, bob)

        page = queries.page_until(
            organization_id=organization, until=NOW + timedelta(days=9_000),
            ask=PageAsked(limit=9, code_prefix="wallets:bob"),
        )  # fmt: skip

        assert [line.credits for line in page.lines] == [7]
        assert [total.credits for total in page.totals] == [7]
        assert balance(organization, bob).posted == 37


@pytest.mark.parametrize("clock", ["effective", "recorded"])
def test_a_page_reads_its_own_accounts_and_a_row_of_sums(monkeypatch, clock):
    organization = create_organization()
    specs = [AccountSpec(f"wallets:{n:04}:EUR", "liability", "EUR", None) for n in range(300)]
    ids = committed(open_accounts)(organization_id=organization, accounts=specs, now=NOW)
    codes = sorted(ids)
    write_history(organization, [Move(ids[codes[0]], ids[code], 5, START, START)
                                 for code in codes[100:]])  # fmt: skip
    read, answer, marks = [], _history._answer, _history.recorded_marks

    def counted(*args, **asked):
        rows = answer(*args, **asked)
        read.append(len(rows))
        return rows

    def marked(accounts, **asked):
        read.append(len(accounts.rows))
        return marks(accounts, **asked)

    monkeypatch.setattr(_history, "_answer", counted)
    monkeypatch.setattr(_history, "recorded_marks", marked)

    def page(**place):
        read.clear()
        return queries.page_of_balances_at(
            organization_id=organization, at=START + timedelta(days=1), clock=clock,
            ask=PageAsked(limit=10, **place),
        )  # fmt: skip

    for place in ({"after": ids[codes[95]]}, {"before": ids[codes[106]]}):
        found = page(**place)
        assert [line.code for line in found.lines] == codes[96:106]
        assert [line.posted for line in found.lines] == [0] * 4 + [5] * 6
        assert (found.has_previous, found.has_more) == (True, True)
        assert found.totals == [BalanceTotal("liability", "EUR", 0)]
        assert read == [12, 1]
