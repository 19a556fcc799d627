"""A hold is over by the clock: whether a sweeper ran makes no difference to who needs its money."""

from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.errors import InvalidInput
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import operations, queries, tasks
from apps.ledger.errors import HoldExpired, InsufficientFunds, ReferenceReused
from apps.ledger.models import Hold, HoldEvent, LedgerAccount
from apps.ledger.operations import (
    EntryRequest,
    FxRequest,
    HoldRequest,
    TransferRequest,
    _engine,
)
from apps.ledger.rules import CaptureHold, Leg, PlaceHold, VoidHold
from tests.accounts.factories import issue_key
from tests.ledger.clients import ApiClient
from tests.ledger.exchanges import exchange
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.ledger.threads import Asking, held, is_waiting, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
# A reference of Kassa's own acts.
OWN = "payout:po_1:hold"


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 100, at=NOW - 9 * HOUR)
    return organization, ann, bob


def hold_over(organization, debit, credit, amount=60, *, at=NOW, currency="EUR"):
    """Place a hold whose time is over, and that no sweeper has come to."""
    command = PlaceHold(
        id=new_id(), debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        currency=currency, expires_at=at,
    )  # fmt: skip
    post(organization, command)
    return command.id


def statuses(*ids):
    found = dict(Hold.objects.values_list("id", "status"))
    return [found[id_] for id_ in ids]


def previewed(organization, *commands):
    """What Kassa's own act would make of these."""
    return _engine.preview(
        organization_id=organization, commands=commands, now=NOW, reach_internal=True
    )


def place(organization, hold, *, key, now):
    return operations.place_hold(
        organization_id=organization, hold=hold, idempotency_key=key, actor=ACTOR, now=now
    )


def dry(organization, debit, credit, amount, **more):
    """What a transfer would do, and that asking wrote nothing."""
    request = TransferRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount, currency="EUR",
        **more,
    )  # fmt: skip
    before = fingerprints()
    [outcome] = operations.preview_transfers(
        organization_id=organization, transfers=[request], mode="atomic", now=NOW
    )
    assert fingerprints() == before
    return outcome


def of_act(act, organization, ann, bob, dollars):
    """What an act that takes all of ann's money (or of her dollars) would do, and the act."""
    mine = {"organization_id": organization, "now": NOW}
    keyed = mine | {"idempotency_key": "act", "actor": ACTOR}
    match act:
        case "entry":
            entry = EntryRequest(legs=(Leg(ann, 100, "EUR"), Leg(bob, -100, "EUR")))
            preview, operation, asked = (
                operations.preview_entry, operations.post_entry, {"entry": entry},
            )  # fmt: skip
        case "hold":
            request = HoldRequest(
                debit_account_id=ann, credit_account_id=bob, amount_minor=100, currency="EUR"
            )
            preview, operation, asked = (
                operations.preview_hold, operations.place_hold, {"hold": request},
            )  # fmt: skip
        case "exchange":
            fx = FxRequest(
                from_account_id=ann, to_account_id=dollars, sold_minor=100, sold_currency="EUR",
                bought_currency="USD", rate=Decimal("1.1"), source="ecb", quoted_at=NOW,
            )  # fmt: skip
            preview, operation, asked = operations.preview_exchange, operations.exchange, {"fx": fx}
        case "exchange undone":
            fx_id = exchange(organization, ann, dollars, 100)
            asked = {"fx_transfer_id": fx_id, "at": "now"}
            preview = operations.preview_fx_reversal
            operation = partial(operations.reverse_fx_transfer, reason="")
        case _:
            parts = [100] if act == "undone" else [30, 70]
            post_transfer(organization, ann, bob, 100, key="there")
            back = [post_transfer(organization, bob, ann, part, key=f"{part}") for part in parts]
            asked = {"entry_ids": [one.entry_id for one in back], "at": "now"}
            preview = operations.preview_reversal
            operation = partial(operations.reverse_entries, reason="")
    return partial(preview, **mine, **asked), partial(operation, **keyed, **asked)


class TestItsMoney:
    @pytest.mark.parametrize(
        "more", [{}, {"effective_at": NOW - HOUR}, {"up_to": True}], ids=["now", "past", "up_to"]
    )
    def test_is_free_to_whoever_needs_it(self, books, more):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)
        told = dry(organization, ann, bob, 100, **more)

        done = post_transfer(organization, ann, bob, 100, key="k", **more).outcome

        assert told.balances == done.balances
        assert [line.amount_minor for line in done.lines] == [100, -100]
        assert Hold.objects.get(id=hold).status == "expired"
        assert balance(organization, ann).available == 0
        assert breaches() == []

    @pytest.mark.parametrize(
        "act", ["entry", "hold", "exchange", "exchange undone", "undone", "set undone"]
    )
    def test_is_free_to_whatever_act_needs_it(self, books, act):
        organization, ann, bob = books
        dollars = open_account(organization, "wallets:ann:USD")
        dry, real = of_act(act, organization, ann, bob, dollars)
        money, other, currency = (
            (dollars, open_account(organization, "wallets:bob:USD"), "USD")
            if act == "exchange undone"
            else (ann, bob, "EUR")
        )
        hold = hold_over(organization, money, other, currency=currency)
        before = fingerprints()
        told = dry()
        assert fingerprints() == before
        stood = set(LedgerAccount.objects.values_list("id", flat=True))

        done = real()

        # Liquidity that an exchange opens has no id before.
        before_it, after_it = (
            {after if after.id in stood else after[1:] for after in result.balances}
            for result in (told, done)
        )
        assert before_it == after_it
        assert Hold.objects.get(id=hold).status == "expired"
        assert balance(organization, money).available == 0
        assert breaches() == []

    def test_is_free_where_money_leaves_by_credit(self, books):
        organization, _, bob = books
        till = open_account(organization, "tills:one:EUR", type_="asset")
        vault = open_account(organization, "vaults:one:EUR", type_="asset", floor=None)
        post(organization, move(till, bob, 100))
        hold_over(organization, vault, till)

        told = dry(organization, vault, till, 100)
        done = post_transfer(organization, vault, till, 100, key="k").outcome

        assert told.balances == done.balances
        assert balance(organization, till).available == 0
        assert breaches() == []

    @pytest.mark.parametrize("more", [{}, {"up_to": True}], ids=["exact", "up_to"])
    def test_is_free_where_only_a_balance_before_what_comes_later_lacks_it(self, books, more):
        organization, ann, bob = books
        fund(organization, ann, 100, at=NOW + 9 * HOUR)
        hold = hold_over(organization, ann, bob)

        told = dry(organization, ann, bob, 100, **more)
        done = post_transfer(organization, ann, bob, 100, key="k", **more).outcome

        assert told.balances == done.balances
        assert done.lines[0].amount_minor == 100
        assert Hold.objects.get(id=hold).status == "expired"
        assert breaches() == []

    @pytest.mark.parametrize("mode", ["atomic", "independent"])
    def test_is_free_to_each_of_a_chain_however_long(self, books, mode):
        organization, _, bob = books
        payers = [open_account(organization, f"wallets:p{n}:EUR") for n in range(7)]
        for payer in payers:
            fund(organization, payer, 100, at=NOW - 9 * HOUR)
            hold_over(organization, payer, bob, 100)
        transfers = [
            TransferRequest(
                debit_account_id=payer, credit_account_id=bob, amount_minor=100, currency="EUR",
                linked=payer is not payers[-1],
            )
            for payer in payers
        ]  # fmt: skip
        asked = {"organization_id": organization, "transfers": transfers, "mode": mode, "now": NOW}
        before = fingerprints()

        told = operations.preview_batch(**asked)
        assert fingerprints() == before
        done = operations.post_transfers(**asked, idempotency_key="b", actor=ACTOR)

        assert (told.refusals, done.refusals) == ({}, {})
        assert (told.amounts, done.amounts) == ((100,) * 7, (100,) * 7)
        assert told.balances == done.balances
        assert balance(organization, bob).available == 700
        assert set(Hold.objects.values_list("status", flat=True)) == {"expired"}
        assert breaches() == []

    def test_is_free_however_many_holds_have_it(self, books, monkeypatch):
        """More of them than an act runs again for, if each run released one portion."""
        monkeypatch.setattr(_engine, "_PORTION", 2)
        organization, ann, bob = books
        holds = [hold_over(organization, ann, bob, 5) for _ in range(20)]

        done = post_transfer(organization, ann, bob, 100, key="k").outcome

        assert done.lines[0].amount_minor == 100
        assert Hold.objects.filter(id__in=holds, status="expired").count() == 20
        assert breaches() == []

    def test_stays_reserved_where_it_is_not_needed(self, books):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)

        told = dry(organization, ann, bob, 40)
        done = post_transfer(organization, ann, bob, 40, key="k").outcome

        assert told.balances == done.balances
        assert done.balances[0].available == 0
        assert Hold.objects.get(id=hold).status == "open"

    def test_that_does_not_suffice_is_refused_with_what_there_is(self, books):
        organization, ann, bob = books
        hold_over(organization, ann, bob)

        with pytest.raises(InsufficientFunds) as told:
            dry(organization, ann, bob, 101)
        with pytest.raises(InsufficientFunds) as done:
            post_transfer(organization, ann, bob, 101, key="k")

        assert told.value.details == done.value.details
        assert done.value.details["available"] == 100

    def test_is_waited_for_while_somebody_else_is_ending_the_hold(self, books):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM ledger_hold WHERE id = %s FOR NO KEY UPDATE", [hold])
        asked = Asking(partial(post_transfer, organization, ann, bob, 100, key="k"))
        wait_until(is_waiting)
        other.rollback()
        other.close()

        assert asked.ended().fault is None
        assert balance(organization, bob).available == 100
        assert sql("SELECT status FROM ledger_hold") == [("expired",)]


class TestADryRun:
    def test_of_giving_it_up_answers_as_the_real_one(self, books):
        organization, ann, bob = books
        asked = {
            "organization_id": organization, "hold_id": hold_over(organization, ann, bob),
            "now": NOW,
        }  # fmt: skip

        with pytest.raises(HoldExpired):
            operations.preview_void(**asked)
        with pytest.raises(HoldExpired):
            operations.void_hold(**asked, idempotency_key="v", actor=ACTOR)

    def test_of_capturing_it_answers_as_the_real_one(self, books):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)
        asked = {
            "organization_id": organization, "hold_id": hold, "now": NOW,
            "capture": operations.CaptureRequest(),
        }  # fmt: skip

        with pytest.raises(HoldExpired):
            operations.preview_capture(**asked)
        with pytest.raises(HoldExpired):
            operations.capture_hold(**asked, idempotency_key="c", actor=ACTOR)

    def test_of_what_still_lacks_money_counts_each_hold_once(self, books):
        organization, ann, bob = books
        asked = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        post(
            organization,
            PlaceHold(id=new_id(), amount_minor=60, reference=OWN, expires_at=NOW, **asked),
            PlaceHold(id=new_id(), amount_minor=10, **asked),
        )
        again = PlaceHold(id=new_id(), amount_minor=100, reference=OWN, **asked)

        # One is released since its reference is asked for, and then they are looked for once more.
        _, [told] = previewed(organization, again)
        with pytest.raises(InsufficientFunds) as done:
            post(organization, again)

        assert told.refusal.details == done.value.details
        assert done.value.details["available"] == 90

    def test_of_a_client_frees_what_an_act_of_kassas_own_has_reserved(self, books):
        organization, ann, bob = books
        payouts = open_account(organization, "payouts:EUR", internal=True)
        hold_over(organization, ann, payouts)

        told = dry(organization, ann, bob, 100)
        done = post_transfer(organization, ann, bob, 100, key="k").outcome

        assert told.balances == done.balances
        assert balance(organization, payouts).pending_in == 0


class TestTheSweeper:
    def test_leaves_out_what_somebody_has_and_comes_back_for_it(self, books):
        organization, ann, bob = books
        first, second = (hold_over(organization, ann, bob, 5) for _ in range(2))

        with held(first, table="ledger_hold"):
            sweep = Asking(partial(operations.expire_holds, organization_id=organization, now=NOW))
            assert sweep.ended().answer == 1
            assert statuses(first, second) == ["open", "expired"]

        assert operations.expire_holds(organization_id=organization, now=NOW) == 1
        assert statuses(first, second) == ["expired", "expired"]
        assert breaches() == []

    def test_releases_what_is_over_and_leaves_the_rest(self, books):
        organization, ann, bob = books
        over = hold_over(organization, ann, bob)
        lasting = PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=10,
            currency="EUR", expires_at=NOW + HOUR,
        )  # fmt: skip
        post(organization, lasting)

        list(tasks.expire_due("", NOW))
        list(tasks.expire_due("", NOW))

        assert dict(Hold.objects.values_list("id", "status")) == {
            over: "expired",
            lasting.id: "open",
        }
        assert balance(organization, ann).available == 90
        assert OutboxEvent.objects.filter(name="ledger.hold.expired").count() == 1
        assert breaches() == []


class TestItsReference:
    def test_of_kassas_own_is_free_once_its_time_is_over(self, books):
        organization, ann, bob = books
        asked = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        first = PlaceHold(id=new_id(), amount_minor=60, reference=OWN, expires_at=NOW, **asked)
        post(organization, first)
        again = PlaceHold(id=new_id(), amount_minor=70, reference=OWN, **asked)

        _, [told] = previewed(organization, again)
        [done] = post(organization, again)

        assert (told.status, told.balances) == (done.status, done.balances)
        assert done.hold.id == again.id
        assert balance(organization, ann).available == 30
        assert Hold.objects.get(id=first.id).status == "expired"
        assert breaches() == []

    @pytest.mark.parametrize("swept", [False, True])
    def test_of_a_client_stands_for_the_hold_that_expired(self, books, swept):
        organization, ann, bob = books
        terms = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        asked = HoldRequest(amount_minor=60, reference="order-1", expires_at=NOW, **terms)
        placed = place(organization, asked, key="h", now=NOW - HOUR)
        if swept:
            list(tasks.expire_due("", NOW))

        told = operations.preview_hold(organization_id=organization, hold=asked, now=NOW)
        done, replay = (place(organization, asked, key="again", now=NOW) for _ in range(2))

        assert placed.hold_id == told.hold_id == done.hold_id == replay.hold_id
        assert told.balances == done.balances == replay.balances
        assert [(b.id, b.available) for b in done.balances] == [(ann, 100), (bob, 0)]
        [hold] = Hold.objects.all()
        assert (told.hold.status, hold.status, hold.captured_minor) == ("expired", "expired", 0)
        assert [event.kind for event in HoldEvent.objects.order_by("id")] == ["placed", "expired"]
        assert breaches() == []

    def test_of_a_client_is_refused_for_other_terms_once_it_expired(self, books):
        organization, ann, bob = books
        terms = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        asked = HoldRequest(amount_minor=60, reference="order-1", expires_at=NOW, **terms)
        placed = place(organization, asked, key="h", now=NOW - HOUR)
        others = [
            HoldRequest(amount_minor=amount, reference="order-1", expires_at=at, **terms)
            for amount, at in ((61, NOW), (60, None), (60, NOW + HOUR), (60, NOW - HOUR))
        ]

        for number, other in enumerate(others):
            with pytest.raises(ReferenceReused) as told:
                operations.preview_hold(organization_id=organization, hold=other, now=NOW)
            with pytest.raises(ReferenceReused) as done:
                place(organization, other, key=f"other-{number}", now=NOW)
            assert told.value.details == done.value.details == {
                "hold": encode_id("ho", placed.hold_id)
            }  # fmt: skip

        assert [hold.id for hold in Hold.objects.all()] == [placed.hold_id]
        assert balance(organization, ann).available == 100
        assert breaches() == []

    def test_that_nobody_has_is_no_reason_to_take_one_that_is_over(self, books):
        """Nor is one that only Kassa's own acts may have, whoever has it."""
        organization, ann, bob = books
        terms = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        post(organization, PlaceHold(id=new_id(), amount_minor=1, reference=OWN, **terms))

        for reference in (None, "order-1", OWN):
            late = HoldRequest(amount_minor=1, reference=reference, expires_at=NOW, **terms)
            with pytest.raises(InvalidInput):
                operations.preview_hold(organization_id=organization, hold=late, now=NOW)
            with pytest.raises(InvalidInput):
                place(organization, late, key="late", now=NOW)

        assert Hold.objects.count() == 1

    @pytest.mark.parametrize(
        ("reference", "status"), [("order-1", "replayed"), (OWN, "held"), (None, "held")]
    )
    def test_in_the_batch_that_ends_it_is_free_if_it_is_kassas_own(self, books, reference, status):
        organization, ann, bob = books
        first, second = (
            PlaceHold(
                id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=60,
                currency="EUR", reference=reference,
            )
            for _ in range(2)
        )  # fmt: skip
        post(organization, first)
        commands = [VoidHold(hold_id=first.id), second]
        _, told = previewed(organization, *commands)

        done = post(organization, *commands)

        assert [outcome.status for outcome in told] == ["voided", status]
        assert [outcome.status for outcome in done] == ["voided", status]
        assert dict(Hold.objects.values_list("id", "status")) == {first.id: "voided"} | (
            {second.id: "open"} if status == "held" else {}
        )
        assert balance(organization, ann).available == (40 if status == "held" else 100)
        assert breaches() == []


class TestWhatIsShown:
    """Reads tell what is reserved at an instant, the same before the sweeper came and after."""

    @pytest.fixture
    def shown(self, books):
        """A hold that is over, one that goes on, and a stranger's that is over."""
        organization, ann, bob = books
        stranger = create_organization("Other")
        theirs = [open_account(stranger, f"wallets:{name}:EUR", floor=None) for name in "xy"]
        hold_over(stranger, *theirs, amount=7)
        hold_over(organization, ann, bob, 60)
        hold_over(organization, ann, bob, 10, at=NOW + HOUR)
        return organization, ann, bob

    def reserved(self, organization, now) -> dict:
        """Return pending out, pending in and available of each wallet, in each read of them."""
        levels = queries.list_levels(organization_id=organization, now=now, path="wallets")
        rows = LedgerAccount.objects.filter(organization_id=organization, code__startswith="wal")
        ids = [row.id for row in rows]
        listed = queries.list_balances(organization_id=organization, ids=ids, now=now)
        listing = queries.balances_with_holds(rows.order_by("code"), now=now, limit=0)
        paged = [view for view, holds in listing if holds == []]
        alone = [
            queries.get_balance(organization_id=organization, account_id=row.id, now=now)
            for row in rows.order_by("code")
        ]
        beside = [
            queries.balance_with_holds(organization_id=organization, account_id=row.id, now=now)
            for row in rows.order_by("code")
        ]
        for view, holds, _ in beside:
            assert view.pending_out == sum(hold.remaining_minor for hold in holds)
        told = [
            [(view.pending_out, view.pending_in, view.available) for view in views]
            for views in (listed, paged, alone, [view for view, *_ in beside])
        ]
        told.append(
            [
                (one.pending_out["EUR"], one.pending_in["EUR"], one.available["EUR"])
                for one in levels["wallets"].branches
            ]
        )
        assert all(one == told[0] for one in told)
        return dict(zip(("ann", "bob"), told[0], strict=True))

    def test_is_decided_by_the_clock(self, shown):
        organization, *_ = shown

        before = self.reserved(organization, NOW - HOUR)
        over = self.reserved(organization, NOW)
        operations.expire_holds(organization_id=organization, now=NOW)

        assert before == {"ann": (70, 0, 30), "bob": (0, 70, 0)}
        assert over == {"ann": (10, 0, 90), "bob": (0, 10, 0)}
        assert self.reserved(organization, NOW) == over
        assert self.reserved(organization, NOW + HOUR) == {"ann": (0, 0, 100), "bob": (0, 0, 0)}
        assert breaches() == []

    def test_counts_what_was_captured_of_it(self, books):
        organization, ann, bob = books
        hold = PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=60,
            currency="EUR", multi_capture=True, expires_at=NOW + HOUR,
        )  # fmt: skip
        part = CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="capture", amount_minor=25)
        post(organization, hold, part)

        assert self.reserved(organization, NOW) == {"ann": (35, 0, 40), "bob": (0, 35, 25)}
        assert self.reserved(organization, NOW + HOUR) == {"ann": (0, 0, 75), "bob": (0, 0, 25)}

    def test_of_an_account_whose_money_leaves_by_credit(self, books):
        organization, *_ = books
        till = open_account(organization, "wallets:till:EUR", type_="asset", floor=None)
        vault = open_account(organization, "wallets:vault:EUR", type_="asset", floor=None)
        hold = hold_over(organization, vault, till, 5)

        def read(account, now) -> tuple[int, int, list]:
            asked = {"organization_id": organization, "account_id": account, "now": now}
            view, holds, _ = queries.balance_with_holds(**asked)
            assert queries.get_balance(**asked) == view
            return view.pending_out, view.pending_in, [one.id for one in holds]

        # It reserves the till's money, and promises it to the vault.
        assert read(till, NOW - HOUR) == (5, 0, [hold])
        assert read(vault, NOW - HOUR) == (0, 5, [])
        assert read(till, NOW) == read(vault, NOW) == (0, 0, [])

    def test_stands_at_its_floor_no_more(self, books):
        organization, ann, bob = books
        hold_over(organization, ann, bob, 100)

        def at_floor(now) -> set:
            rows = LedgerAccount.objects.filter(queries.stands_at_floor(now=now))
            return set(rows.filter(organization_id=organization).values_list("id", flat=True))

        assert at_floor(NOW - HOUR) == {ann, bob}
        assert at_floor(NOW) == {bob}
        assert not LedgerAccount.objects.filter(queries.stands_at_floor(now=NOW, is_below=True))

    @pytest.mark.parametrize("type_", ["liability", "asset"])
    def test_is_no_more_of_what_takes_a_credit_line_to_its_end(self, type_):
        organization = create_organization()
        till, safe = (
            open_account(organization, f"tills:{name}:EUR", type_=type_, floor=floor)
            for name, floor in (("till", -50), ("safe", None))
        )
        out = (till, safe) if type_ == "liability" else (safe, till)
        post(organization, move(*out, 20))
        hold_over(organization, *out, 30)
        hold_over(organization, *reversed(out), 7)

        def at_floor(now, **more) -> set:
            rows = LedgerAccount.objects.filter(queries.stands_at_floor(now=now, **more))
            return set(rows.values_list("id", flat=True))

        assert at_floor(NOW - HOUR) == {till}
        assert at_floor(NOW) == at_floor(NOW - HOUR, is_below=True) == set()

    @pytest.mark.parametrize(
        ("now", "status"), [(NOW - timedelta(microseconds=1), "open"), (NOW, "expired")]
    )
    def test_is_listed_under_the_status_that_it_is_shown_in(self, books, now, status):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)

        listed = {
            asked: [
                (row.id, queries.view_hold(row, now=now).status)
                for row in queries.holds(
                    organization_id=organization, search=queries.HoldSearch(status=asked), now=now
                )
            ]
            for asked in ("open", "expired")
        }

        assert listed == {"open": [], "expired": []} | {status: [(hold, status)]}

    def test_is_expired_where_it_is_shown_with_what_happened_to_it(self, books):
        organization, ann, bob = books
        hold = hold_over(organization, ann, bob)

        shown, events, has_more = queries.hold_with_events(
            organization_id=organization, hold_id=hold, now=NOW
        )

        assert (shown.status, shown.remaining_minor) == ("expired", 0)
        assert ([event.kind for event in events], has_more) == (["placed"], False)

    def test_over_the_api_has_a_tag_of_its_own(self, books):
        organization, ann, bob = books
        api = ClientOf(organization)
        path = f"/v1/ledger-accounts/{encode_id('la', ann)}"
        free = api.get(path)
        hold_over(organization, ann, bob, 60, at=clock.now() + 9 * HOUR)
        held = api.get(path)
        hold_over(organization, ann, bob, 40, at=clock.now() - HOUR)
        over = api.get(path)
        [listed] = api.get("/v1/ledger-accounts", code="wallets:ann:EUR").json()["data"]
        with_holds = api.get(path, **{"expand[]": "holds"}).json()

        assert [answer.json()["available"] for answer in (free, held, over)] == [100, 40, 40]
        assert free["ETag"] != held["ETag"] == over["ETag"]
        assert (listed["pending_out"], listed["available"]) == (60, 40)
        assert (with_holds["pending_out"], len(with_holds["holds"])) == (60, 1)


class ClientOf(ApiClient):
    def __init__(self, organization) -> None:
        self.token = issue_key(Organization.objects.get(id=organization), "ledger:read").token


def test_are_asked_for_without_reading_each(books):
    organization, ann, bob = books
    for _ in range(3):
        hold_over(organization, ann, bob, 10)
    asked = {"organization_id": organization, "account_ids": [bob]}

    with CaptureQueriesContext(connection) as sent:
        assert queries.has_expired_holds(**asked, now=NOW)

    assert [query["sql"].endswith("LIMIT 1") for query in sent] == [True]
    assert not queries.has_expired_holds(**asked, now=NOW - HOUR)
