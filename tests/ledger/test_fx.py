"""Exchanges on the real engine: happy, refused, replayed, raced; and over the API."""

from datetime import timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest

from apps.core import clock
from apps.core.errors import Refusal
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    BalanceTooLarge,
    CurrencyMismatch,
    FxAmountTooSmall,
    FxQuoteStale,
    FxRateInvalid,
    FxSameCurrency,
    InsufficientFunds,
    LedgerAccountReserved,
    LedgerAccountsNotFound,
    LedgerCodeReserved,
    ReferenceReserved,
    ReferenceReused,
)
from apps.ledger.models import FxTransfer, JournalEntry, LedgerAccount
from apps.ledger.operations import AccountSpec, FxRequest
from apps.ledger.rules import CLOCK_SKEW
from tests.ledger.clients import ApiClient, code_of, pointers, printed
from tests.ledger.exchanges import exchange, position
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
)
from tests.ledger.rows import fingerprints
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    euros = open_account(organization, "wallets:ann:EUR")
    dollars = open_account(organization, "wallets:ann:USD")
    fund(organization, euros, 1000_00)
    return organization, euros, dollars


class TestExchange:
    def test_moves_both_currencies_through_liquidity(self, books):
        organization, euros, dollars = books

        quoted_at = NOW - timedelta(seconds=61)
        fx = exchange(
            organization, euros, dollars, metadata={"order": "7"}, reference="fx-1",
            quoted_at=quoted_at,
        )  # fmt: skip

        assert balance(organization, euros).available == 900_00
        assert balance(organization, dollars).available == 108_45
        assert (position(organization, "EUR"), position(organization, "USD")) == (100_00, -108_45)
        row = FxTransfer.objects.get(id=fx)
        assert (row.bought_minor, row.remainder_minor) == (108_45, Decimal("0.6"))
        assert (row.rate, row.source, row.quoted_at) == (Decimal("1.08456"), "ecb", quoted_at)
        for entry_id, account, amount in [
            (row.sold_entry_id, euros, 100_00), (row.bought_entry_id, dollars, -108_45),
        ]:  # fmt: skip
            entry = queries.get_entry(organization_id=organization, entry_id=entry_id)
            assert (entry.kind, entry.metadata) == ("fx", {"fx_transfer": encode_id("fx", fx)})
            assert [p.amount_minor for p in entry.postings if p.account_id == account] == [amount]
        event = OutboxEvent.objects.get(type="fx_transfer.posted")
        assert event.aggregate_id == encode_id("fx", fx)
        assert event.data == {
            "from_account": encode_id("la", euros),
            "to_account": encode_id("la", dollars),
            "amount": 100_00,
            "currency": "EUR",
            "bought_amount": 108_45,
            "bought_currency": "USD",
            "rate": "1.08456",
            "source": "ecb",
            "quoted_at": "2026-11-02T09:28:59Z",
            "reference": "fx-1",
            "effective_at": "2026-11-02T09:30:00Z",
            "sold_entry": encode_id("je", row.sold_entry_id),
            "bought_entry": encode_id("je", row.bought_entry_id),
        }
        assert breaches() == []

    def test_has_happened_once_both_of_its_entries_have(self, books):
        organization, euros, dollars = books
        # Another server's clock is a little ahead.
        ahead = NOW + timedelta(seconds=3)
        fund(organization, dollars, 1, "USD", at=ahead)

        row = FxTransfer.objects.get(id=exchange(organization, euros, dollars))

        times = [
            queries.get_entry(organization_id=organization, entry_id=entry_id).effective_at
            for entry_id in (row.sold_entry_id, row.bought_entry_id)
        ]
        assert (times, row.effective_at) == ([NOW, ahead], ahead)

    def test_of_what_a_client_owns_takes_it_off_its_own_normal_side(self, books):
        organization, _, _ = books
        euros, dollars = (
            open_account(organization, f"wise:{currency}", type_="asset", floor=None)
            for currency in ("EUR", "USD")
        )

        exchange(organization, euros, dollars)

        assert balance(organization, euros).posted == -100_00
        assert balance(organization, dollars).posted == 108_45
        assert (position(organization, "EUR"), position(organization, "USD")) == (-100_00, 108_45)
        assert breaches() == []

    def test_opens_liquidity_once_and_keeps_it_to_itself(self, books):
        organization, euros, dollars = books

        exchange(organization, euros, dollars, key="1")
        exchange(organization, euros, dollars, key="2")

        assert LedgerAccount.objects.filter(code__startswith="liquidity:").count() == 2
        with pytest.raises(LedgerCodeReserved):
            operations.open_client_account(
                organization_id=organization,
                account=AccountSpec("liquidity:GBP", "equity", "GBP"),
                idempotency_key="k", actor=ACTOR, now=NOW,
            )  # fmt: skip
        liquidity = LedgerAccount.objects.get(code="liquidity:USD").id
        with pytest.raises(LedgerAccountReserved):
            exchange(organization, euros, liquidity, key="3")

    @pytest.mark.parametrize(
        ("more", "refusal"),
        [
            ({"sold_minor": 1000_01}, InsufficientFunds),
            ({"sold_minor": 1, "rate": Decimal("0.5")}, FxAmountTooSmall),
            ({"rate": Decimal(0)}, FxRateInvalid),
            ({"rate": Decimal(10**15)}, BalanceTooLarge),
            ({"bought_currency": "EUR"}, FxSameCurrency),
            ({"bought_currency": "GBP"}, CurrencyMismatch),
            ({"sold_currency": "GBP"}, CurrencyMismatch),
            ({"quoted_at": NOW + CLOCK_SKEW + timedelta(microseconds=1)}, FxQuoteStale),
            ({"quoted_at": NOW - timedelta(seconds=301)}, FxQuoteStale),
            ({"reference": "payout:x"}, ReferenceReserved),
        ],
    )
    def test_refused_moves_nothing(self, books, more, refusal):
        organization, euros, dollars = books
        before = JournalEntry.objects.count()

        with pytest.raises(refusal):
            exchange(organization, euros, dollars, **more)
        with pytest.raises(refusal):
            exchange(organization, euros, dollars, **more)

        assert JournalEntry.objects.count() == before
        assert FxTransfer.objects.count() == 0
        assert not LedgerAccount.objects.filter(code__startswith="liquidity:").exists()
        assert balance(organization, euros).available == 1000_00

    @pytest.mark.parametrize("ahead", [timedelta(milliseconds=3), CLOCK_SKEW])
    def test_takes_a_quote_of_a_clock_that_is_a_little_ahead(self, books, ahead):
        organization, euros, dollars = books

        fx_id = exchange(organization, euros, dollars, quoted_at=NOW + ahead)

        assert FxTransfer.objects.get(id=fx_id).quoted_at == NOW + ahead
        assert balance(organization, euros).available == 900_00
        assert breaches() == []

    def test_of_another_organizations_account_is_refused(self, books):
        organization, euros, _ = books
        stranger = open_account(create_organization("Other"), "wallets:x:USD")

        with pytest.raises(LedgerAccountsNotFound):
            exchange(organization, euros, stranger)

        assert balance(organization, euros).available == 1000_00


class TestReplay:
    def test_answers_the_same_even_when_the_quote_has_aged(self, books):
        organization, euros, dollars = books
        first = exchange(organization, euros, dollars)

        again = operations.exchange(
            organization_id=organization,
            fx=FxRequest(
                from_account_id=euros, to_account_id=dollars, sold_minor=100_00,
                sold_currency="EUR", bought_currency="USD", rate=Decimal("1.084560"),
                source="ecb", quoted_at=NOW,
            ),
            idempotency_key="k-1", actor=ACTOR, now=NOW + timedelta(days=1),
        )  # fmt: skip

        assert again.fx_transfer_id == first
        assert FxTransfer.objects.count() == 1

    def test_with_another_rate_is_refused_and_names_the_first(self, books):
        organization, euros, dollars = books
        first = exchange(organization, euros, dollars)

        with pytest.raises(IdempotencyKeyReused) as refused:
            exchange(organization, euros, dollars, rate=Decimal("1.1"))

        assert refused.value.details["resource"] == encode_id("fx", first)

    def test_of_a_reference_answers_what_stands_or_names_it(self, books):
        organization, euros, dollars = books
        first = exchange(organization, euros, dollars, reference="r")

        second = exchange(organization, euros, dollars, reference="r", key="k-2")
        third = exchange(organization, euros, dollars, reference="r", key="k-2")
        with pytest.raises(ReferenceReused) as refused:
            exchange(organization, euros, dollars, 1_00, reference="r", key="k-3")

        assert first == second == third
        assert refused.value.details["fx_transfer"] == encode_id("fx", first)
        assert balance(organization, euros).available == 900_00

    @pytest.mark.parametrize(
        "other",
        [
            {"rate": Decimal("1.08457")},
            {"source": "boe"},
            {"quoted_at": NOW - timedelta(seconds=1)},
        ],
        ids=["rate", "source", "quoted_at"],
    )
    def test_of_a_reference_under_another_quote_is_refused(self, books, other):
        organization, euros, dollars = books
        first = exchange(organization, euros, dollars, reference="r")

        with pytest.raises(ReferenceReused) as refused:
            exchange(organization, euros, dollars, reference="r", key="k-2", **other)

        assert refused.value.details["fx_transfer"] == encode_id("fx", first)
        assert FxTransfer.objects.count() == 1
        assert balance(organization, euros).available == 900_00


class TestRace:
    def test_of_both_directions_and_plain_transfers_meets_no_deadlock(self, books):
        """Case 11: twenty workers, A to B and B to A, euros to dollars and back."""
        organization, euros, dollars = books
        fund(organization, dollars, 1000_00, "USD")
        there = [
            partial(exchange, organization, euros, dollars, 10_00, key=f"there-{n}")
            for n in range(10)
        ]
        back = [
            partial(
                exchange, organization, dollars, euros, 10_00, key=f"back-{n}",
                sold_currency="USD", bought_currency="EUR", rate=Decimal("0.92"),
            )
            for n in range(10)
        ]  # fmt: skip

        outcomes = race(*there, *back)

        assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
        assert balance(organization, euros).available == 1000_00 - 10 * 10_00 + 10 * 9_20
        assert position(organization, "EUR") == 10 * 10_00 - 10 * 9_20
        assert position(organization, "USD") == 10 * 10_00 - 10 * 10_84
        assert balance(organization, dollars).available == 1000_00 + 10 * 10_84 - 10 * 10_00
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(5))
    def test_of_one_key_or_one_reference_posts_once(self, books, turn):
        organization, euros, dollars = books

        by_key = race(*[partial(exchange, organization, euros, dollars)] * 5)
        by_reference = race(
            *(partial(exchange, organization, euros, dollars, reference="r", key=f"r-{n}")
              for n in range(5))
        )  # fmt: skip

        assert (len(set(by_key)), len(set(by_reference))) == (1, 1)
        assert FxTransfer.objects.count() == 2
        assert balance(organization, euros).available == 800_00


def liquidity(organization) -> dict[str, UUID]:
    """Return the organisation's own position, by currency."""
    rows = LedgerAccount.objects.filter(organization_id=organization, code__startswith="liquidity:")
    return {row.currency: row.id for row in rows}


class TestApi:
    @pytest.fixture
    def api(self):
        api = ApiClient()
        api.dollars = open_account(api.organization, "wallets:ann:USD")
        return api

    def body(self, api, **more):
        return {
            "from_account": printed(api.ann), "to_account": printed(api.dollars),
            "amount": 10_00, "currency": "EUR", "bought_currency": "USD", "rate": "1.08456",
            "source": "ecb", "quoted_at": clock.now().isoformat(), **more,
        }  # fmt: skip

    def test_posts_replays_reads_and_lists(self, api):
        body = self.body(api, reference="fx-1", metadata={"a": "b"})

        created = api.post("/v1/fx-transfers", body)
        again = api.post("/v1/fx-transfers", body)

        assert created.status_code == 201, created.content
        answer = created.json()
        assert again.json() == answer
        assert again["Idempotent-Replayed"] == "true"
        assert (answer["bought_amount"], answer["rate"], answer["remainder"]) == (
            10_84, "1.08456", "0.56",
        )  # fmt: skip
        assert answer["metadata"] == {"a": "b"}
        # Liquidity owns what was sold, and has still to buy what was bought.
        own = liquidity(api.organization)
        assert [
            (one["ledger_account"], one["version"], one["available"])
            for one in answer.pop("balances")
        ] == [
            (printed(api.ann), 2, 90_00),
            (printed(api.dollars), 1, 10_84),
            (printed(own["EUR"]), 1, 10_00),
            (printed(own["USD"]), 1, -10_84),
        ]
        assert answer.pop("dry_run") is False
        read = api.get(f"/v1/fx-transfers/{answer['id']}").json()
        assert read == answer | {"reversals": None}
        assert api.get("/v1/fx-transfers").json()["data"] == [answer]
        assert api.get("/v1/fx-transfers", reference="fx-1").json()["data"] == [answer]
        assert api.get("/v1/fx-transfers", reference="fx-2").json()["data"] == []
        assert api.get(f"/v1/journal-entries/{answer['sold_entry']}").json()["kind"] == "fx"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("rate", rate) for rate in (1.08, 1, "1,08", "-1", "0", "0.0", "1e3", "NaN", "", " 1",
                                          "1.0000000000001", "12345678901234567", None, "١")),
            *(("amount", amount) for amount in (0, -1, "10", 10.0, True, 2**63)),
            ("currency", "eur"), ("bought_currency", "XXX"), ("source", ""), ("quoted_at", "now"),
            ("from_account", "la_x"), ("surprise", 1),
        ],
    )  # fmt: skip
    def test_names_the_field_of_bad_input(self, api, field, value):
        response = api.post("/v1/fx-transfers", self.body(api, **{field: value}))

        assert response.status_code == 400
        assert pointers(response) == [f"/{field}"]
        assert FxTransfer.objects.count() == 0

    @pytest.mark.parametrize(
        ("more", "code"),
        [
            ({"amount": 100_01}, "insufficient_funds"),
            ({"amount": 1, "rate": "0.5"}, "fx_amount_too_small"),
            ({"bought_currency": "EUR"}, "fx_same_currency"),
            ({"quoted_at": "2020-01-01T00:00:00Z"}, "fx_quote_stale"),
        ],
    )
    def test_answers_its_refusals(self, api, more, code):
        body = self.body(api, **more)

        real = api.post("/v1/fx-transfers", body)
        replay = api.post("/v1/fx-transfers", body)
        dry = api.post("/v1/fx-transfers", body | {"dry_run": True}, key=None)

        assert code_of(real) == code_of(replay) == code_of(dry) == (422, code)
        # One thing was asked for, so there is no place of it among others.
        assert not any("index" in refused.json() for refused in (real, replay, dry))

    def test_dry_says_what_would_happen_and_writes_nothing(self, api):
        body = self.body(api, metadata={"a": "b"}, description="Trip")
        before = fingerprints("ledger_", "core_")

        dry = api.post("/v1/fx-transfers", body | {"dry_run": True}, key=None)

        assert dry.status_code == 200
        assert fingerprints("ledger_", "core_") == before
        real = api.post("/v1/fx-transfers", body)
        made = ("id", "sold_entry", "bought_entry", "created_at", "effective_at", "dry_run")
        assert {name: dry.json()[name] for name in made if name != "effective_at"} == {
            "id": None, "sold_entry": None, "bought_entry": None, "created_at": None,
            "dry_run": True,
        }  # fmt: skip
        told, done = dry.json(), real.json()
        # What the real one opened has no id before.
        own = {printed(id_) for id_ in liquidity(api.organization).values()}
        opened = [one["ledger_account"] for one in done["balances"][2:]]
        assert own == set(opened)
        for one in done["balances"][2:]:
            one["ledger_account"] = None
        for answer in (told, done):
            for name in made:
                del answer[name]
        assert told == done
        # The second one finds liquidity open; the same is said of it as is done.
        before = fingerprints("ledger_", "core_")
        told = api.post("/v1/fx-transfers", body | {"dry_run": True}, key=None).json()
        assert fingerprints("ledger_", "core_") == before
        done = api.post("/v1/fx-transfers", body, key="k-2").json()
        assert told["balances"] == done["balances"]
        assert [one["ledger_account"] for one in told["balances"][2:]] == opened
        assert breaches() == []

    def test_dry_of_a_reference_that_stands_answers_what_stands(self, api):
        body = self.body(api, reference="fx-1")
        made = api.post("/v1/fx-transfers", body).json()

        dry = api.post("/v1/fx-transfers", body | {"dry_run": True}, key=None)
        other = api.post("/v1/fx-transfers", body | {"dry_run": True, "amount": 1}, key=None)

        assert dry.json() == made | {"dry_run": True}
        assert code_of(other) == (422, "reference_reused")
        assert FxTransfer.objects.count() == 1

    def test_of_another_organization_is_not_there(self, api):
        id_ = api.post("/v1/fx-transfers", self.body(api)).json()["id"]
        other = ApiClient()

        assert code_of(other.get(f"/v1/fx-transfers/{id_}")) == (404, "fx_transfer_not_found")
        assert other.get("/v1/fx-transfers").json()["data"] == []
        for more in ({}, {"dry_run": True}):
            stolen = other.post("/v1/fx-transfers", self.body(api, **more))
            assert code_of(stolen) == (422, "unknown_ledger_account")

    def test_needs_its_scope(self):
        response = ApiClient("ledger:read", "transfers:write").post("/v1/fx-transfers", {})

        assert code_of(response) == (403, "insufficient_scope")
