"""A client's entries of several legs: happy, refused, replayed, raced; and over the API."""

from functools import partial

import pytest

from apps.core.errors import Refusal
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, IdempotencyKey, OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    CurrencyMismatch,
    EntryNotBalanced,
    InsufficientFunds,
    LedgerAccountReserved,
    LedgerAccountsNotFound,
    ReferenceReserved,
    ReferenceReused,
    SameLedgerAccount,
)
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import Leg, PlaceHold
from tests.ledger.clients import SCOPES, ApiClient, code_of, pointers, printed
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
)
from tests.ledger.rows import fingerprints
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    accounts = [open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob", "cat")]
    fund(organization, accounts[0], 100_00)
    return organization, *accounts


def post_entry(organization, *legs, key="k", **more):
    return posted(organization, *legs, key=key, **more).entry_id


def posted(organization, *legs, key="k", **more):
    return operations.post_entry(
        organization_id=organization,
        entry=EntryRequest(
            legs=tuple(Leg(account, amount, *(currency or ["EUR"]))
                       for account, amount, *currency in legs),
            **more,
        ),
        idempotency_key=key,
        actor=ACTOR,
        now=NOW,
    )  # fmt: skip


class TestPostEntry:
    def test_moves_money_over_all_its_legs(self, books):
        organization, ann, bob, cat = books

        entry_id = post_entry(organization, (ann, 30_00), (bob, -20_00), (cat, -10_00))

        held = [balance(organization, account).available for account in (ann, bob, cat)]
        assert held == [70_00, 20_00, 10_00]
        entry = queries.get_entry(organization_id=organization, entry_id=entry_id)
        assert entry.kind == "entry"
        assert [p.amount_minor for p in entry.postings] == [30_00, -20_00, -10_00]
        event = OutboxEvent.objects.get(aggregate_id=encode_id("je", entry_id))
        assert len(event.data["postings"]) == 3
        assert breaches() == []

    def test_answers_what_it_left_and_a_replay_what_there_is_now(self, books):
        organization, ann, bob, cat = books
        hold = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                         amount_minor=10_00, currency="EUR")  # fmt: skip
        post(organization, hold)
        legs = ((cat, -10_00), (ann, 30_00), (bob, -20_00))

        first = posted(organization, *legs, reference="r")
        post(organization, move(bob, cat, 5_00))

        # In its own order; what is reserved is not available, and no pending money in is.
        assert [(b.id, b.version, b.posted, b.available) for b in first.balances] == [
            (cat, 1, 10_00, 10_00), (ann, 2, 70_00, 60_00), (bob, 1, 20_00, 20_00),
        ]  # fmt: skip
        for again in (
            posted(organization, *legs, reference="r"),
            posted(organization, *legs, reference="r", key="k-2"),
        ):
            assert again.entry_id == first.entry_id
            assert [(b.id, b.version, b.posted, b.available) for b in again.balances] == [
                (cat, 2, 15_00, 15_00), (ann, 2, 70_00, 60_00), (bob, 2, 15_00, 15_00),
            ]  # fmt: skip

    def test_holds_several_currencies_that_each_sum_to_zero(self, books):
        organization, ann, bob, _ = books
        dollars = [open_account(organization, f"wallets:{n}:USD", floor=None) for n in ("a", "b")]

        post_entry(organization, (ann, 1_00), (bob, -1_00), (dollars[0], 5, "USD"),
                   (dollars[1], -5, "USD"))  # fmt: skip

        assert balance(organization, dollars[1]).posted == 5
        assert breaches() == []

    def test_that_does_not_balance_is_refused_naming_what_is_off(self, books):
        organization, ann, bob, _ = books
        dollars = open_account(organization, "wallets:ann:USD", floor=None)

        with pytest.raises(EntryNotBalanced) as refused:
            post_entry(organization, (ann, 5), (bob, -4))
        with pytest.raises(EntryNotBalanced) as of_two:
            post_entry(organization, (dollars, 5, "USD"), (bob, -5), key="k-2")

        assert refused.value.details == {"currency": "EUR", "residue": 1}
        assert of_two.value.details == {"currency": "USD", "residue": 5}
        assert IdempotencyKey.objects.get(key="k").refusal_code == "entry_not_balanced"

    def test_refused_moves_nothing(self, books):
        organization, ann, bob, cat = books
        [bank] = queries.account_ids(organization_id=organization, codes=["bank:ba_1:EUR"]).values()
        stranger = open_account(create_organization("Other"), "wallets:x:EUR")
        before = Posting.objects.count()

        for number, (legs, more, refusal) in enumerate(
            [
                ([(ann, 100_01), (bob, -1), (cat, -100_00)], {}, InsufficientFunds),
                ([(ann, 2), (ann, -1), (bob, -1)], {}, SameLedgerAccount),
                ([(ann, 1), (bank, -1)], {}, LedgerAccountReserved),
                ([(ann, 1), (stranger, -1)], {}, LedgerAccountsNotFound),
                ([(ann, 1, "USD"), (bob, -1, "USD")], {}, CurrencyMismatch),
                ([(ann, 1), (bob, -1)], {"reference": "payout:1"}, ReferenceReserved),
            ]
        ):
            for _ in range(2):
                with pytest.raises(refusal):
                    post_entry(organization, *legs, key=f"k-{number}", **more)

        assert Posting.objects.count() == before
        assert balance(organization, ann).available == 100_00


class TestReplay:
    def test_of_a_key_answers_the_entry_that_stands(self, books):
        organization, ann, bob, _ = books
        first = post_entry(organization, (ann, 5), (bob, -5))

        assert post_entry(organization, (ann, 5), (bob, -5)) == first
        with pytest.raises(IdempotencyKeyReused):
            post_entry(organization, (ann, 6), (bob, -6))
        assert balance(organization, bob).available == 5

    def test_of_a_reference_answers_what_stands_or_names_it(self, books):
        organization, ann, bob, _ = books
        first = post_entry(organization, (ann, 5), (bob, -5), reference="r")

        again = [
            post_entry(organization, (ann, 5), (bob, -5), reference="r", key="k-2")
            for _ in range(2)
        ]
        with pytest.raises(ReferenceReused) as refused:
            post_entry(organization, (ann, 6), (bob, -6), reference="r", key="k-3")

        assert again == [first, first]
        assert refused.value.details["journal_entry"] == encode_id("je", first)
        assert balance(organization, bob).available == 5


class TestRace:
    @pytest.mark.parametrize("turn", range(5))
    def test_for_the_same_money_lets_as_many_through_as_there_is(self, books, turn):
        organization, ann, bob, cat = books

        outcomes = race(
            *(
                partial(post_entry, organization, (ann, 30_00), (bob, -10_00), (cat, -20_00),
                        key=f"k-{n}")
                for n in range(6)
            )
        )  # fmt: skip

        assert sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes) == 3
        assert balance(organization, ann).available == 10_00
        assert breaches() == []

    def test_of_accounts_in_any_order_meets_no_deadlock(self, books):
        organization, ann, bob, cat = books
        fund(organization, bob, 100_00)
        fund(organization, cat, 100_00)
        rounds = [(ann, bob, cat), (cat, ann, bob), (bob, cat, ann)]

        outcomes = race(
            *(
                partial(post_entry, organization, (a, 2), (b, -1), (c, -1), key=f"k-{n}-{a}")
                for n in range(4)
                for a, b, c in rounds
            )
        )

        assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
        assert balance(organization, ann).available == 100_00
        assert breaches() == []


class TestApi:
    @pytest.fixture
    def api(self):
        return ApiClient()

    def body(self, api, **more):
        return {
            "postings": [
                {"ledger_account": printed(api.ann), "amount": 5, "currency": "EUR"},
                {"ledger_account": printed(api.bob), "amount": -5, "currency": "EUR"},
            ],
            **more,
        }

    def test_posts_replays_and_is_read_back(self, api):
        body = self.body(api, reference="r", metadata={"a": "b"}, description="Shared")

        created = api.post("/v1/journal-entries", body)
        again = api.post("/v1/journal-entries", body)

        assert created.status_code == 201, created.content
        answer = created.json()
        assert again.json() == answer
        assert again["Idempotent-Replayed"] == "true"
        assert answer.pop("dry_run") is False
        assert answer.pop("balances") == [
            {"ledger_account": printed(api.ann), "version": 2, "posted": 99_95, "available": 99_95},
            {"ledger_account": printed(api.bob), "version": 1, "posted": 5, "available": 5},
        ]
        assert api.get(f"/v1/journal-entries/{answer['id']}").json() == answer
        assert [p["balance_after"] for p in answer["postings"]] == [100_00 - 5, 5]
        # It is no transfer, which has one amount and two accounts.
        assert api.get(f"/v1/transfers/{answer['id']}").status_code == 404

    def test_dry_answers_what_the_real_run_does_and_leaves_no_row(self, api):
        body = self.body(api, effective_at="2026-11-30T00:00:00Z", metadata={"a": "b"})
        before = [JournalEntry.objects.count(), IdempotencyKey.objects.count()]

        dry = api.post("/v1/journal-entries", {**body, "dry_run": True}, key=None)
        assert [JournalEntry.objects.count(), IdempotencyKey.objects.count()] == before
        real = api.post("/v1/journal-entries", body)

        assert (dry.status_code, real.status_code) == (200, 201)
        differ = {"id", "created_at", "dry_run"}
        assert {k: v for k, v in dry.json().items() if k not in differ} == {
            k: v for k, v in real.json().items() if k not in differ
        }
        assert [dry.json()[name] for name in sorted(differ)] == [None, True, None]

    def test_dry_meets_the_refusal_of_the_real_run(self, api):
        body = self.body(api, dry_run=True)
        body["postings"][0]["amount"], body["postings"][1]["amount"] = 100_01, -100_01

        response = api.post("/v1/journal-entries", body, key=None)

        assert code_of(response) == (422, "insufficient_funds")

    def test_dry_under_a_reference_that_stands_answers_what_stands(self, api):
        body = self.body(api, reference="r")
        real = api.post("/v1/journal-entries", body).json()

        dry = api.post("/v1/journal-entries", {**body, "dry_run": True}, key=None)

        assert dry.json() == {**real, "dry_run": True}

    def test_that_does_not_balance_is_422_naming_currency_and_residue(self, api):
        body = self.body(api)
        body["postings"][1]["amount"] = -4

        response = api.post("/v1/journal-entries", body)

        assert code_of(response) == (422, "entry_not_balanced")
        assert (response.json()["currency"], response.json()["residue"]) == ("EUR", 1)

    def test_naming_an_account_twice_is_422(self, api):
        body = self.body(api)
        body["postings"][1]["ledger_account"] = printed(api.ann)

        refused = api.post("/v1/journal-entries", body)

        assert code_of(refused) == (422, "same_ledger_account")
        assert refused.json()["ledger_account"] == printed(api.ann)

    def test_in_another_currency_than_an_account_says_which_it_is_in(self, api):
        body = self.body(api)
        for posting in body["postings"]:
            posting["currency"] = "USD"

        refused = api.post("/v1/journal-entries", body).json()

        assert (refused["code"], refused["ledger_account"], refused["currency"]) == (
            "currency_mismatch", printed(api.ann), "EUR",
        )  # fmt: skip

    @pytest.mark.parametrize("amount", [0, 1.0, "5", True, None, 2**63, 10**13 + 1, -(10**13) - 1])
    def test_with_no_amount_is_400_naming_it(self, api, amount):
        body = self.body(api)
        body["postings"][1]["amount"] = amount

        response = api.post("/v1/journal-entries", body)

        assert (response.status_code, pointers(response)) == (400, ["/postings/1/amount"])
        assert IdempotencyKey.objects.count() == 0

    @pytest.mark.parametrize(
        ("more", "pointer"),
        [
            ({"postings": []}, "/postings"),
            ({"postings": "x"}, "/postings"),
            ({"kind": "mine"}, "/kind"),
            ({"effective_at": "1066-10-14T00:00:00Z"}, "/effective_at"),
            ({"reference": ""}, "/reference"),
        ],
    )
    def test_names_the_field_of_bad_input(self, api, more, pointer):
        response = api.post("/v1/journal-entries", self.body(api, **more))

        assert (response.status_code, pointers(response)) == (400, [pointer])

    def test_of_one_leg_or_too_many_is_400(self, api):
        [one, _] = self.body(api)["postings"]

        for postings in ([one], [one] * 101):
            response = api.post("/v1/journal-entries", {"postings": postings})
            assert (response.status_code, pointers(response)) == (400, ["/postings"])

    def test_on_another_organizations_accounts_is_refused(self, api):
        response = ApiClient().post("/v1/journal-entries", self.body(api))

        assert code_of(response) == (422, "unknown_ledger_account")

    def test_needs_its_scope_and_a_key(self, api):
        assert api.post("/v1/journal-entries", self.body(api), key=None).status_code == 400
        response = ApiClient("ledger:read", "ledger:write").post("/v1/journal-entries", {})
        assert code_of(response) == (403, "insufficient_scope")

    def test_forced_breaks_a_balance_of_the_past_and_is_audited(self):
        api = ApiClient(*SCOPES, "history:write")
        # Ann's money came later than that.
        body = self.body(api, effective_at="2026-10-01T00:00:00Z")
        before = fingerprints("ledger_", "core_")

        plain = api.post("/v1/journal-entries", body | {"dry_run": True}, key=None)
        dry = api.post("/v1/journal-entries", body | {"dry_run": True, "force": True}, key=None)

        assert code_of(plain) == (422, "later_balance_below_floor")
        assert (dry.status_code, dry.json()["postings"][0]["balance_after"]) == (200, 100_00 - 5)
        assert fingerprints("ledger_", "core_") == before
        real, replay = (api.post("/v1/journal-entries", body | {"force": True}) for _ in range(2))
        assert (real.status_code, replay.json()) == (201, real.json())
        [audited] = AuditEvent.objects.filter(act="ledger.force_entry")
        assert audited.after["journal_entry"] == real.json()["id"]
        assert balance(api.organization, api.ann).available == 100_00 - 5
        assert breaches() == []

    def test_forced_never_breaks_the_floor_of_today(self):
        api = ApiClient(*SCOPES, "history:write")
        body = self.body(api, effective_at="2026-10-01T00:00:00Z", force=True)
        body["postings"][0]["amount"], body["postings"][1]["amount"] = 100_01, -100_01

        assert code_of(api.post("/v1/journal-entries", body)) == (422, "insufficient_funds")
        assert not AuditEvent.objects.filter(act="ledger.force_entry").exists()
        assert balance(api.organization, api.ann).available == 100_00

    def test_forced_without_its_scope_is_refused_dry_or_real(self, api):
        body = self.body(api, effective_at="2026-10-01T00:00:00Z", force=True)

        for more in ({}, {"dry_run": True}):
            refused = api.post("/v1/journal-entries", body | more)
            assert code_of(refused) == (403, "insufficient_scope")

        assert JournalEntry.objects.filter(kind="entry").count() == 0

    def test_with_the_key_of_one_that_was_not_forced_is_another_request(self):
        api = ApiClient(*SCOPES, "history:write")
        api.post("/v1/journal-entries", self.body(api))

        reused = api.post("/v1/journal-entries", self.body(api, force=True))

        assert code_of(reused) == (422, "idempotency_key_reused")
