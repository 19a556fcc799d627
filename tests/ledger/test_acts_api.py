"""What every act of the ledger's API has in common: keys, chains, bad input, tenancy, dry runs."""

from datetime import timedelta

import pytest

from apps.core import clock
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, IdempotencyKey
from apps.core.wall_clock import print_instant
from apps.ledger import operations
from apps.ledger.errors import LedgerAccountDiffers
from apps.ledger.models import Hold, JournalEntry, LedgerAccount, Posting
from apps.ledger.operations import AccountSpec
from apps.ledger.rules import PlaceHold
from tests.ledger.acting import ACTS, Client
from tests.ledger.clients import code_of, pointers, printed
from tests.ledger.factories import (
    NOW,
    balance,
    committed,
    create_organization,
    open_account,
    post,
)
from tests.ledger.rows import fingerprints

pytestmark = pytest.mark.django_db(transaction=True)

# Earlier than what the client began with.
BEFORE = print_instant(clock.now() - timedelta(minutes=5))
NAMES = {"id", "transfer", "journal_entry", "sold_entry", "bought_entry"}


@pytest.fixture
def api():
    api = Client()
    api.begin()
    return api


class TestKeys:
    @pytest.mark.parametrize("act", ACTS)
    def test_that_are_missing_or_malformed_are_400_and_nothing_is_written(self, api, act):
        before = fingerprints("ledger_", "core_", "approvals_")

        missing = api.post(api.path(act), api.body(act), key=None)
        malformed = [api.post(api.path(act), api.body(act), key=key) for key in ("a b", "k" * 256)]

        assert code_of(missing) == (400, "idempotency_key_missing")
        assert [code_of(one) for one in malformed] == [(400, "idempotency_key_invalid")] * 2
        assert fingerprints("ledger_", "core_", "approvals_") == before

    @pytest.mark.parametrize(
        ("act", "status"),
        [("account", 200), ("annotate", 201), ("capture", 200), ("holds", 201),
         ("journal-entries", 201), ("reversal", 201), ("reversals", 201), ("transfers", 201),
         ("transfers/batch", 201), ("void", 200)],
    )  # fmt: skip
    def test_of_an_act_answer_the_first_one_again_and_no_other_request(self, api, act, status):
        first = api.post(api.path(act), api.body(act), key="k")
        entries = JournalEntry.objects.count()
        replay = api.post(api.path(act), api.body(act), key="k")
        other = api.post("/v1/transfers", api.moved(7), key="k")

        assert (first.status_code, replay.status_code) == (status, status)
        assert replay["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first
        assert code_of(other) == (422, "idempotency_key_reused")
        assert JournalEntry.objects.count() == entries
        assert breaches() == []

    @pytest.mark.parametrize("act", ["account", "annotate", "void"])
    def test_of_an_act_on_something_name_that_to_another_request(self, api, act):
        done_to = {"account": printed(api.ann), "annotate": api.entry, "void": api.hold}[act]
        first = api.post(api.path(act), api.body(act), key="k")

        other = api.post("/v1/transfers", api.moved(7), key="k")

        assert first.status_code < 300
        assert (code_of(other), other.json()["resource"]) == (
            (422, "idempotency_key_reused"),
            done_to,
        )

    def test_of_a_capture_name_the_entry_or_the_hold_that_it_only_ended(self, api):
        whole = api.post("/v1/holds", api.moved(1), key="h").json()["hold"]["id"]
        first = api.post(f"/v1/holds/{whole}/capture", {}, key="all")
        api.post(api.path("capture"), {"amount": 0}, key="none")

        named = [
            api.post("/v1/transfers", api.moved(7), key=key).json()["resource"]
            for key in ("all", "none")
        ]

        assert first.json()["journal_entry"] is not None
        assert named == [first.json()["journal_entry"], api.hold]
        again = api.post(api.path("capture"), {"amount": 0}, key="none")
        assert (again.status_code, again.json()["journal_entry"]) == (200, None)


class TestLinkedTransfers:
    def batch(self, api, mode, *transfers):
        return api.post("/v1/transfers/batch", {"mode": mode, "transfers": list(transfers)})

    def test_of_an_independent_batch_fall_together_and_leave_the_others(self, api):
        response = self.batch(
            api, "independent",
            api.moved(1_00),
            api.moved(2_00, linked=True),
            api.moved(1_000_00, linked=True),
            api.moved(3_00),
            api.moved(4_00, linked=True),
            api.moved(5_00),
        )  # fmt: skip

        outcomes = response.json()["outcomes"]
        assert response.status_code == 201
        assert [(one["status"], one["code"]) for one in outcomes] == [
            ("posted", None),
            ("refused", "linked_command_failed"),
            # The guilty one has its own code.
            ("refused", "insufficient_funds"),
            ("refused", "linked_command_failed"),
            ("posted", None),
            ("posted", None),
        ]
        assert (response.json()["posted"], response.json()["refused"]) == (3, 3)
        # 5.00 went before.
        assert balance(api.organization, api.bob).posted == 5_00 + 1_00 + 4_00 + 5_00
        assert breaches() == []

    def test_of_an_independent_batch_all_stand_if_none_is_refused(self, api):
        response = self.batch(api, "independent", api.moved(2_00, linked=True), api.moved(3_00))
        replay = self.batch(api, "independent", api.moved(2_00, linked=True), api.moved(3_00))

        assert [one["status"] for one in response.json()["outcomes"]] == ["posted"] * 2
        assert replay.json() == response.json()
        assert balance(api.organization, api.bob).posted == 5_00 + 2_00 + 3_00

    def test_of_an_atomic_batch_refuse_all_of_it_by_the_guilty_one(self, api):
        before = JournalEntry.objects.count(), Posting.objects.count()

        transfers = [
            api.moved(1_00),
            api.moved(2_00, linked=True),
            api.moved(3_00, linked=True),
            api.moved(1_000_00),
        ]
        refused = self.batch(api, "atomic", *transfers)
        replay = self.batch(api, "atomic", *transfers)

        assert code_of(refused) == code_of(replay) == (422, "insufficient_funds")
        assert refused.json()["index"] == replay.json()["index"] == 3
        assert (JournalEntry.objects.count(), Posting.objects.count()) == before
        assert balance(api.organization, api.bob).posted == 5_00

    @pytest.mark.parametrize("mode", ["atomic", "independent"])
    def test_that_a_batch_ends_within_are_refused_dry_or_real_and_move_nothing(self, api, mode):
        """Whoever cut the list too early hears of it: the rest of the chain is not here."""
        cut = [api.moved(2_00, linked=True), api.moved(3_00, linked=True)]
        body = {"mode": mode, "transfers": cut}
        before = fingerprints("ledger_", "core_outbox", locks=False)

        dry = api.post("/v1/transfers/batch", body | {"dry_run": True}, key=None)
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        real, replay = (api.post("/v1/transfers/batch", body) for _ in range(2))

        for answer in (dry, real, replay):
            if mode == "atomic":
                assert code_of(answer) == (422, "linked_chain_open")
                assert answer.json()["index"] == 1
                continue
            assert [one["code"] for one in answer.json()["outcomes"]] == [
                "linked_command_failed", "linked_chain_open",
            ]  # fmt: skip
        assert replay["Idempotent-Replayed"] == "true"
        assert fingerprints("ledger_posting", "ledger_journal", "ledger_balance", "core_outbox",
                            locks=False).items() <= before.items()  # fmt: skip
        assert balance(api.organization, api.bob).posted == 5_00
        assert breaches() == []

    def test_of_an_atomic_batch_of_one_has_its_place_too(self, api):
        body = {"mode": "atomic", "transfers": [api.moved(1_000_00)]}

        dry = api.post("/v1/transfers/batch", body | {"dry_run": True}, key=None)
        refused = api.post("/v1/transfers/batch", body)
        replay = api.post("/v1/transfers/batch", body)

        for answer in (dry, refused, replay):
            assert code_of(answer) == (422, "insufficient_funds")
            assert answer.json()["index"] == 0
        alone = api.post("/v1/transfers", api.moved(1_000_00), key="alone")
        assert "index" not in alone.json()

    def test_of_a_dry_run_answer_what_the_real_one_does(self, api):
        body = {
            "mode": "independent",
            "transfers": [api.moved(2_00, linked=True), api.moved(1_000_00), api.moved(1_00)],
        }
        before = fingerprints("ledger_", "core_")

        dry = api.post("/v1/transfers/batch", body | {"dry_run": True}, key=None)

        assert fingerprints("ledger_", "core_") == before
        real = api.post("/v1/transfers/batch", body)
        told, done = dry.json()["outcomes"], real.json()["outcomes"]
        assert [one["code"] for one in told] == [one["code"] for one in done]
        assert [one["code"] for one in done] == [
            "linked_command_failed", "insufficient_funds", None,
        ]  # fmt: skip
        assert dry.json()["balances"] == real.json()["balances"]


class TestOneReferenceTwice:
    """A second use of it names the entry that stands under it, and none that was never made."""

    @pytest.fixture
    def twice(self, api):
        return [api.moved(1_00, reference="rent"), api.moved(2_00, reference="rent")]

    def batch(self, api, transfers, *, key="k-1", **more):
        return api.post("/v1/transfers/batch", {"transfers": transfers, **more}, key=key)

    def test_in_a_dry_run_names_nothing_that_it_would_make(self, api, twice):
        common = {"mode": "independent", "dry_run": True, "key": None}

        again = self.batch(api, [twice[0], twice[0]], **common).json()["outcomes"]
        other = self.batch(api, twice, **common).json()["outcomes"]

        assert [one["transfer"] for one in again] == [None, None]
        assert (other[1]["code"], other[1]["details"]) == ("reference_reused", {})

    def test_in_a_dry_run_names_what_stood_before(self, api, twice):
        stands = api.post("/v1/transfers", twice[0], key="before").json()["id"]

        [again, other] = self.batch(api, twice, mode="independent", dry_run=True, key=None).json()[
            "outcomes"
        ]

        assert again["transfer"] == other["details"]["journal_entry"] == stands

    def test_in_an_atomic_batch_is_named_by_its_place_alone(self, api, twice):
        for response in (
            self.batch(api, twice, mode="atomic", dry_run=True, key=None),
            self.batch(api, twice, mode="atomic"),
            self.batch(api, twice, mode="atomic"),
        ):
            assert code_of(response) == (422, "reference_reused")
            assert response.json()["index"] == 1
            assert "journal_entry" not in response.json()

    def test_in_a_linked_chain_names_nothing_that_fell_with_it(self, api, twice):
        twice[0]["linked"] = True

        [fallen, guilty] = self.batch(api, twice, mode="independent").json()["outcomes"]

        assert fallen["code"] == "linked_command_failed"
        assert (guilty["code"], guilty["details"]) == ("reference_reused", {})

    def test_beside_each_other_names_the_first_which_stands(self, api, twice):
        [first, second] = self.batch(api, twice, mode="independent").json()["outcomes"]

        assert second["details"]["journal_entry"] == first["transfer"]
        assert api.get(f"/v1/journal-entries/{first['transfer']}").status_code == 200


class TestBadInput:
    @pytest.mark.parametrize(
        ("act", "more", "pointer"),
        [
            *(("capture", {"amount": amount}, "/amount")
              for amount in (-1, "10", 10.0, True, 2**63, None)),
            ("capture", {"effective_at": "yesterday"}, "/effective_at"),
            ("capture", {"effective_at": "1815-12-10T00:00:00Z"}, "/effective_at"),
            ("capture", {"description": "x" * 501}, "/description"),
            ("capture", {"metadata": {"a": 1}}, "/metadata/a"),
            ("capture", {"dry_run": 1}, "/dry_run"),
            ("capture", {"surprise": 1}, "/surprise"),
            ("void", {"dry_run": "yes"}, "/dry_run"),
            ("void", {"reason": "x"}, "/reason"),
            ("reversal", {"at": "later"}, "/at"),
            ("reversal", {"reason": "x" * 501}, "/reason"),
            ("reversal", {"dry_run": None}, "/dry_run"),
            ("reversal", {"surprise": 1}, "/surprise"),
            ("reversals", {"journal_entries": []}, "/journal_entries"),
            ("reversals", {"journal_entries": "je_x"}, "/journal_entries"),
            ("reversals", {"journal_entries": ["je_x"]}, "/journal_entries/0"),
            ("reversals", {"journal_entries": [encode_id("je", new_id())] * 10_001},
             "/journal_entries"),
            ("account", {"status": "shut"}, "/status"),
            *(("account", {"min_available": floor}, "/min_available")
              for floor in ("0", 0.0, True, 10**13 + 1, -(10**13) - 1)),
            ("account", {"reason": ""}, "/reason"),
            ("account", {"currency": "USD"}, "/currency"),
        ],
    )  # fmt: skip
    def test_is_400_naming_the_field_and_changes_nothing(self, api, act, more, pointer):
        before = fingerprints("ledger_", "core_")

        refused = api.post(api.path(act), api.body(act) | more)

        assert (code_of(refused), pointers(refused)) == ((400, "invalid_request"), [pointer])
        assert fingerprints("ledger_", "core_") == before

    def test_of_an_account_change_without_a_change_or_a_reason_is_400(self, api):
        nothing = api.post(api.path("account"), {"reason": "None"})
        unexplained = api.post(api.path("account"), {"status": "frozen"})

        assert code_of(nothing) == (400, "invalid_request")
        assert pointers(unexplained) == ["/reason"]
        assert balance(api.organization, api.ann).status == "open"

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("holds/ho_x/capture", 400),
            ("holds/ho_x/void", 400),
            ("journal-entries/je_x/reversal", 400),
            ("ledger-accounts/la_x", 400),
            # An id of another kind is the id of nothing here.
            ("holds/je_01kb1mzxe5f0q8w3v6y2n4r7ta/capture", 404),
            ("journal-entries/ho_01kb1mzxe5f0q8w3v6y2n4r7ta/reversal", 404),
            ("ledger-accounts/je_01kb1mzxe5f0q8w3v6y2n4r7ta", 404),
        ],
    )
    def test_in_a_path_is_400_malformed_and_404_of_another_kind(self, api, path, status):
        body = api.body("account") if path.startswith("ledger") else {}

        assert api.post(f"/v1/{path}", body).status_code == status


class TestTenancy:
    @pytest.mark.parametrize(
        ("act", "code"),
        [
            ("capture", "hold_not_found"),
            ("void", "hold_not_found"),
            ("reversal", "journal_entry_not_found"),
            ("reversals", "journal_entry_not_found"),
            ("annotate", "journal_entry_not_found"),
            ("account", "ledger_account_not_found"),
        ],
    )
    def test_another_organizations_is_404_dry_or_real_and_stays(self, api, act, code):
        stranger = Client()
        before = fingerprints("ledger_", "core_outbox", "core_audit")

        answers = [stranger.post(api.path(act), api.body(act))]
        if act in {"capture", "void", "reversal", "reversals"}:
            answers.append(stranger.post(api.path(act), api.body(act) | {"dry_run": True}))

        assert [code_of(answer) for answer in answers] == [(404, code)] * len(answers)
        assert fingerprints("ledger_", "core_outbox", "core_audit") == before
        assert not IdempotencyKey.objects.filter(organization_id=stranger.organization,
                                                 refusal_code=None).exists()  # fmt: skip

    def test_a_set_with_one_of_another_organization_is_not_undone_at_all(self, api):
        stranger = Client()
        stranger.begin()

        refused = stranger.post(
            "/v1/journal-entries/reversals", {"journal_entries": [stranger.entry, api.entry]}
        )

        assert code_of(refused) == (404, "journal_entry_not_found")
        assert not JournalEntry.objects.filter(kind="reversal").exists()

    def test_a_set_of_as_many_as_a_batch_posts_is_read_and_looked_for(self, api):
        named = [encode_id("je", new_id()) for _ in range(10_000)]

        refused = api.post("/v1/journal-entries/reversals", {"journal_entries": named})

        assert code_of(refused) == (404, "journal_entry_not_found")

    @pytest.mark.parametrize(
        "act", ["account", "annotate", "capture", "fx-transfers", "holds", "reversal", "reversals",
                "void", "periods/2026-05/close"],
    )  # fmt: skip
    def test_a_key_without_the_scope_is_403_and_changes_nothing(self, api, act):
        reader = Client("ledger:read")
        before = fingerprints("ledger_")

        assert code_of(reader.post(api.path(act), api.body(act))) == (403, "insufficient_scope")
        assert fingerprints("ledger_") == before


class TestKassasOwn:
    """What Kassa's own acts posted or hold back, as a payout does, is no client's to move."""

    @pytest.fixture
    def api(self):
        api = Client()
        api.begin()
        self.transit = open_account(
            api.organization, "payouts:in_transit:EUR", floor=None, internal=True
        )
        # The payout's hold, and the entry by which money came in from the bank.
        placed = PlaceHold(
            id=new_id(), debit_account_id=api.ann, credit_account_id=self.transit,
            amount_minor=30_00, currency="EUR",
        )  # fmt: skip
        post(api.organization, placed)
        api.hold = encode_id("ho", placed.id)
        paid_in = JournalEntry.objects.get(organization_id=api.organization, kind="transfer",
                                           actor="job:tests")  # fmt: skip
        api.entry = encode_id("je", paid_in.id)
        return api

    def body(self, api, act: str) -> dict:
        own = printed(self.transit)
        moved = api.moved(1) | {"credit_account": own}
        posting = {"ledger_account": own, "amount": -1, "currency": "EUR"}
        return api.body(act) | {
            "fx-transfers": {
                "from_account": own, "currency": "EUR", "quoted_at": print_instant(clock.now()),
            },
            "holds": moved,
            "journal-entries": {"postings": [api.body(act).get("postings", [{}])[0], posting]},
            "transfers": moved,
            "transfers/batch": {"transfers": [moved]},
        }.get(act, {})  # fmt: skip

    @pytest.mark.parametrize(
        "act",
        ["capture", "void", "reversal", "reversals", "transfers", "transfers/batch", "holds",
         "journal-entries", "fx-transfers"],
    )  # fmt: skip
    def test_is_out_of_reach_dry_or_real_and_stays_as_it_is(self, api, act):
        body = self.body(api, act)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        dry = api.post(api.path(act), body | {"dry_run": True}, key=None)
        real = api.post(api.path(act), body)

        assert code_of(dry) == code_of(real) == (422, "ledger_account_reserved")
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        # 20.00 were held and 5.00 gone before.
        assert balance(api.organization, api.ann).available == 100_00 - 20_00 - 5_00 - 30_00
        assert breaches() == []

    @pytest.mark.parametrize(
        "act", ["transfers", "transfers/batch", "journal-entries", "holds", "fx-transfers"]
    )
    @pytest.mark.parametrize("text", ["payout:po_1:hold", "bank_line:bl_1"])
    def test_has_references_that_no_client_takes_from_it(self, api, act, text):
        """An open hold under a payout's reference would keep the payout from holding its money."""
        body = api.body(act) | {"reference": text}
        if act == "transfers/batch":
            body = {"transfers": [api.moved(1, reference=text)]}
        if act == "fx-transfers":
            body["quoted_at"] = print_instant(clock.now())
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        dry = api.post(api.path(act), body | {"dry_run": True}, key=None)
        real = api.post(api.path(act), body)

        assert code_of(dry) == code_of(real) == (422, "reference_reserved")
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        assert breaches() == []

    def test_is_not_undone_says_who_asks_whether_it_can_be(self, api):
        answer = api.get(f"/v1/journal-entries/{api.entry}/reversal").json()

        assert (answer["reversible"], answer["code"]) == (False, "ledger_account_reserved")


def told(answer: object) -> list[tuple[str, object]]:
    """Return what an answer says, at any depth, name by name."""
    if isinstance(answer, list):
        return [said for one in answer for said in told(one)]
    if not isinstance(answer, dict):
        return []
    return [
        said
        for name, value in answer.items()
        for said in (told(value) if isinstance(value, dict | list) else [(name, value)])
    ]


class TestDryRuns:
    @pytest.mark.parametrize(
        ("act", "more"),
        [
            ("capture", {}),
            ("capture", {"amount": 13_00}),
            ("capture", {"amount": 0}),
            ("void", {}),
            ("reversal", {}),
            ("reversal", {"at": "original", "reason": "Sent back"}),
            ("reversals", {}),
        ],
    )
    def test_answer_what_the_real_run_does_and_write_nothing(self, api, act, more):
        body = api.body(act) | more
        before = fingerprints()

        dry = api.post(api.path(act), body | {"dry_run": True}, key=None)

        assert fingerprints() == before
        real = api.post(api.path(act), body)
        assert (dry.status_code, dry.json()["dry_run"]) == (200, True)
        assert dry.json()["balances"] == real.json()["balances"] != []
        # What becomes of the hold; of a reversal there is none.
        assert dry.json().get("hold") == real.json().get("hold")
        assert fingerprints() != before
        assert breaches() == []

    @pytest.mark.parametrize(
        ("act", "more"),
        [
            ("transfers", {"effective_at": BEFORE, "reference": "r", "metadata": {"a": "b"}}),
            ("transfers", {"effective_at": BEFORE, "amount": 100_00, "up_to": True}),
            ("transfers/batch", {}),
            ("journal-entries", {"effective_at": BEFORE, "description": "Shared"}),
            ("holds", {"reference": "r", "multi_capture": True}),
            ("fx-transfers", {"effective_at": BEFORE}),
        ],
    )
    def test_of_what_they_would_make_tell_all_but_its_ids_and_write_nothing(self, api, act, more):
        body = api.body(act) | more
        if "quoted_at" in body:
            body["quoted_at"] = print_instant(clock.now())
        before = fingerprints()

        dry = api.post(api.path(act), body | {"dry_run": True}, key=None)

        assert fingerprints() == before
        real = api.post(api.path(act), body)
        assert (dry.status_code, real.status_code) == (200, 201), (dry.content, real.content)
        kept = NAMES | {"created_at", "dry_run"}
        # Liquidity that is opened for it has an id from then on.
        made = {("ledger_account", None)} if act == "fx-transfers" else set()
        said = [one for one in told(dry.json()) if one[0] not in kept]
        done = [one for one in told(real.json()) if one[0] not in kept]
        assert len(said) == len(done)
        assert {one for one, other in zip(said, done, strict=True) if one != other} == made
        assert {value for name, value in told(dry.json()) if name in NAMES} == {None}
        assert dry.json()["balances"] != []
        assert fingerprints() != before
        assert breaches() == []

    @pytest.mark.parametrize(
        ("act", "more", "refusal"),
        [
            ("capture", {"amount": 20_01}, (422, "capture_exceeds_hold")),
            ("reversal", {}, (422, "insufficient_funds")),
            ("reversals", {}, (422, "insufficient_funds")),
        ],
    )
    def test_are_refused_as_the_real_run_is(self, api, act, more, refusal):
        back = {"debit_account": printed(api.bob), "credit_account": printed(api.ann)}
        api.post("/v1/transfers", api.moved(5_00) | back, key="back")
        body = api.body(act) | more
        before = fingerprints("ledger_", "core_")

        dry = api.post(api.path(act), body | {"dry_run": True}, key=None)

        assert fingerprints("ledger_", "core_") == before
        assert code_of(dry) == code_of(api.post(api.path(act), body)) == refusal
        assert Hold.objects.get().captured_minor == 0

    @pytest.mark.parametrize("act", ["capture", "void"])
    def test_of_a_hold_that_ended_say_so(self, api, act):
        api.post(api.path("void"), {}, key="void")

        dry = api.post(api.path(act), {"dry_run": True}, key=None)

        assert code_of(dry) == (409, "hold_already_voided")

    def test_of_an_entry_that_was_reversed_say_so(self, api):
        api.post(api.path("reversal"), {}, key="first")

        dry = api.post(api.path("reversal"), {"dry_run": True}, key=None)

        assert code_of(dry) == (409, "already_reversed")
        assert AuditEvent.objects.filter(act="ledger.reverse_entry").count() == 1


class TestAccountsThatDiffer:
    @pytest.mark.parametrize(("type_", "currency"), [("asset", "EUR"), ("liability", "USD")])
    def test_are_refused_and_nothing_of_the_set_is_opened(self, type_, currency):
        organization = create_organization()
        standing = open_account(organization, "wallets:ann:EUR")
        before = fingerprints("ledger_", "core_", locks=False)

        with pytest.raises(LedgerAccountDiffers) as refused:
            committed(operations.open_accounts)(
                organization_id=organization,
                accounts=[
                    AccountSpec("wallets:ann:EUR", type_, currency),
                    AccountSpec("wallets:bob:EUR", "liability", "EUR"),
                ],
                now=NOW,
            )

        assert refused.value.code == "ledger_account_differs"
        assert refused.value.details == {
            "ledger_code": "wallets:ann:EUR",
            "ledger_account": encode_id("la", standing),
        }
        assert fingerprints("ledger_", "core_", locks=False) == before
        assert [row.id for row in LedgerAccount.objects.all()] == [standing]

    def test_of_another_organization_are_its_own(self):
        open_account(create_organization(), "wallets:ann:EUR")
        other = create_organization("Other")

        opened = committed(operations.open_accounts)(
            organization_id=other,
            accounts=[AccountSpec("wallets:ann:EUR", "asset", "EUR")],
            now=NOW,
        )

        assert balance(other, opened["wallets:ann:EUR"]).type == "asset"
