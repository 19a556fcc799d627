"""Holds, reversals, dry runs and floors over the API."""

from datetime import timedelta

import pytest
from django.test import Client

from apps.accounts.api.authentication import forget_cached_keys
from apps.accounts.models import Organization
from apps.core import clock
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, IdempotencyKey
from apps.core.wall_clock import print_instant
from apps.ledger.models import Hold, JournalEntry, Posting
from apps.ledger.queries import _holds
from tests.accounts.factories import create_organization, issue_key
from tests.ledger.factories import balance, fund, open_account
from tests.ledger.rows import fingerprints
from tests.ledger.threads import Asking, count_waiting, held, is_waiting
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = ("ledger:read", "ledger:write", "holds:write", "transfers:write")


class Api:
    """A client of one organisation, with its key."""

    def __init__(self, organization, *more: str):
        forget_cached_keys()
        self.token = issue_key(organization, *SCOPES, *more).token
        self.name = f"{organization.id}-{more}"
        self.count = 0

    def _headers(self):
        self.count += 1
        return {
            "Authorization": f"Bearer {self.token}",
            "Idempotency-Key": f"{self.name}-{self.count}",
        }

    def post(self, path, body, *, key: str | None = None):
        headers = self._headers() | ({"Idempotency-Key": key} if key else {})
        return Client().post(f"/v1/{path}", body, content_type="application/json", headers=headers)

    def get(self, path):
        return Client().get(f"/v1/{path}", headers=self._headers())


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization.id, "wallets:ann:EUR")
    bob = open_account(organization.id, "wallets:bob:EUR")
    fund(organization.id, ann, 100_00, at=clock.now() - timedelta(hours=1))
    return Api(organization, "history:write"), organization.id, ann, bob


def moved(ann, bob, amount, **more):
    return {
        "debit_account": encode_id("la", ann),
        "credit_account": encode_id("la", bob),
        "amount": amount,
        "currency": "EUR",
        **more,
    }


def first_balances(ann, bob) -> list[dict]:
    """Return how Ann's and Bob's accounts are printed before anything of theirs moved."""
    return [
        {"ledger_account": encode_id("la", account), "version": version}
        | {"posted": posted, "available": posted}
        for account, version, posted in ((ann, 1, 100_00), (bob, 0, 0))
    ]


class TestHolds:
    def test_are_placed_captured_in_part_and_the_rest_is_free(self, books):
        api, organization, ann, bob = books

        placed = api.post("holds", moved(ann, bob, 15))
        hold = placed.json()["hold"]["id"]
        captured = api.post(f"holds/{hold}/capture", {"amount": 13}, key="capture")
        replayed = api.post(f"holds/{hold}/capture", {"amount": 13}, key="capture")

        assert placed.status_code == 201
        assert placed.json()["balances"][0]["available"] == 100_00 - 15
        assert captured.status_code == replayed.status_code == 200
        assert replayed.json() == captured.json()
        assert (
            captured.json()["hold"] | {"status": "captured", "captured": 13, "remaining": 0}
            == (captured.json()["hold"])
        )
        assert balance(organization, ann).available == 100_00 - 13
        assert api.get(f"journal-entries/{captured.json()['journal_entry']}").status_code == 200
        for act, body in (("capture", {}), ("void", {})):
            again = api.post(f"holds/{hold}/{act}", body)
            assert (again.status_code, again.json()["code"]) == (409, "hold_already_captured")
        assert breaches() == []

    def test_are_captured_in_parts_until_used_up(self, books):
        api, organization, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 10_000, multi_capture=True)).json()["hold"]["id"]

        parts = [api.post(f"holds/{hold}/capture", {"amount": 5_000}) for _ in range(2)]
        more = api.post(f"holds/{hold}/capture", {"amount": 1})
        listed = api.get("journal-entries").json()["data"]
        read = [api.get(f"journal-entries/{entry['id']}").json() for entry in listed]

        # Each entry says of which hold it is; what brought the money in is of none.
        assert [(entry["kind"], entry["hold"]) for entry in listed] == [
            ("capture", hold), ("capture", hold), ("transfer", None),
        ]  # fmt: skip
        assert read == listed

        assert [part.json()["hold"]["status"] for part in parts] == ["open", "captured"]
        assert (more.status_code, more.json()["code"]) == (409, "hold_already_captured")
        assert balance(organization, ann).pending_out == balance(organization, bob).pending_in == 0
        assert balance(organization, bob).posted == 10_000
        assert breaches() == []

    def test_tell_what_happened_to_them(self, books):
        api, _, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 10_00, multi_capture=True)).json()["hold"]["id"]
        entry = api.post(f"holds/{hold}/capture", {"amount": 3_00}).json()["journal_entry"]
        api.post(f"holds/{hold}/capture", {"amount": 99_00})
        api.post(f"holds/{hold}/void", {})

        shown = api.get(f"holds/{hold}?expand[]=events").json()
        plain = api.get(f"holds/{hold}").json()

        happened = [(e["kind"], e["amount"], e["journal_entry"]) for e in shown["events"]]
        assert happened == [
            ("placed", 10_00, None),
            ("captured", 3_00, entry),
            ("voided", 7_00, None),
        ]
        assert shown["has_more_events"] is False
        assert [e["created_at"] for e in shown["events"]] == sorted(
            e["created_at"] for e in shown["events"]
        )
        assert plain == {k: v for k, v in shown.items() if "events" not in k}
        assert api.get(f"holds/{hold}?expand[]=postings").status_code == 400
        stranger = Api(create_organization())
        assert stranger.get(f"holds/{hold}?expand[]=events").status_code == 404

    def test_tell_a_bounded_number_of_events(self, books, monkeypatch):
        api, _, ann, bob = books
        monkeypatch.setattr(_holds, "HOLD_EVENTS_MAX", 2)
        hold = api.post("holds", moved(ann, bob, 10_00, multi_capture=True)).json()["hold"]["id"]
        api.post(f"holds/{hold}/capture", {"amount": 3_00})
        full = api.get(f"holds/{hold}?expand[]=events").json()
        api.post(f"holds/{hold}/capture", {"amount": 3_00})
        more = api.get(f"holds/{hold}?expand[]=events").json()

        assert not full["has_more_events"]
        assert more["has_more_events"]
        assert more["events"] == full["events"]

    def test_a_replay_answers_the_hold_as_it_is_now(self, books):
        api, organization, ann, bob = books
        first = api.post("holds", moved(ann, bob, 10), key="h-1")
        hold = first.json()["hold"]["id"]
        api.post(f"holds/{hold}/void", {}, key="v-1")

        again = api.post("holds", moved(ann, bob, 10), key="h-1")
        voided = api.post(f"holds/{hold}/void", {}, key="v-1")

        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
        assert again.json()["hold"]["id"] == hold
        assert again.json()["hold"]["status"] == voided.json()["hold"]["status"] == "voided"
        assert again.json()["balances"] == voided.json()["balances"] == first_balances(ann, bob)
        assert Hold.objects.count() == 1
        assert balance(organization, ann).available == 100_00

    def test_without_funds_is_refused_and_moves_nothing(self, books):
        api, organization, ann, bob = books

        refused = api.post("holds", moved(ann, bob, 100_01))

        assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")
        assert not Hold.objects.exists()
        assert balance(organization, ann).pending_out == 0

    def test_that_expired_are_over_whether_or_not_swept(self, books, monkeypatch):
        api, _, ann, bob = books
        soon = clock.now() + timedelta(seconds=1)
        hold = api.post("holds", moved(ann, bob, 100_00, expires_at=soon.isoformat())).json()
        hold_id = hold["hold"]["id"]
        monkeypatch.setattr(clock, "now", lambda: soon)

        shown = api.get(f"holds/{hold_id}")
        late = api.post(f"holds/{hold_id}/capture", {})
        # Its money is free again: the next one that needs it releases it first.
        moved_on = api.post("transfers", moved(ann, bob, 100_00))

        assert shown.json()["status"] == "expired"
        assert (late.status_code, late.json()["code"]) == (409, "hold_expired")
        assert moved_on.status_code == 201
        assert Hold.objects.get().status == "expired"
        assert breaches() == []

    def test_a_replay_past_its_time_answers_the_hold_and_not_that_it_is_late(
        self, books, monkeypatch
    ):
        """Whoever lost the answer asks again, by then perhaps too late for a new one."""
        api, _, ann, bob = books
        soon = clock.now() + timedelta(seconds=1)
        asked = moved(ann, bob, 5, expires_at=soon.isoformat())
        poor = asked | {"amount": 100_01}
        first = api.post("holds", asked, key="h")
        refused = api.post("holds", poor, key="p")
        monkeypatch.setattr(clock, "now", lambda: soon)

        again = api.post("holds", asked, key="h")
        refused_again = api.post("holds", poor, key="p")
        other = api.post("holds", asked | {"amount": 6}, key="h")
        fresh = api.post("holds", asked, key="new")
        dry = api.post("holds", asked | {"dry_run": True}, key="h")

        assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
        assert again.json()["hold"]["id"] == first.json()["hold"]["id"]
        assert again.json()["hold"]["status"] == "expired"
        assert refused.json()["code"] == refused_again.json()["code"] == "insufficient_funds"
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        for late in (fresh, dry):
            assert (late.status_code, late.json()["code"]) == (400, "invalid_request")
            assert [error["pointer"] for error in late.json()["errors"]] == ["/expires_at"]
        assert Hold.objects.count() == 1
        assert not IdempotencyKey.objects.filter(key="new").exists()
        assert breaches() == []

    def test_asked_for_again_past_its_time_waits_for_the_first_request(self, books, monkeypatch):
        """Told that it is late, the client would take it that nothing is reserved."""
        api, _, ann, bob = books
        soon = clock.now() + timedelta(minutes=1)
        asked = moved(ann, bob, 5, expires_at=soon.isoformat())

        def ask():
            return api.post("holds", asked, key="h")

        with held(ann):
            first = Asking(ask)
            wait_until(is_waiting)
            monkeypatch.setattr(clock, "now", lambda: soon)
            again = Asking(ask)
            wait_until(lambda: count_waiting() == 2 or not again.is_alive())
        answers = [asking.ended().answer for asking in (first, again)]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert len({answer.json()["hold"]["id"] for answer in answers}) == 1
        assert Hold.objects.count() == 1

    def test_are_captured_at_the_business_time_that_is_asked_for(self, books):
        api, _, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 10)).json()["hold"]["id"]
        terms = {"effective_at": "2199-01-01T00:05:00Z", "description": "Rent"}

        entry = api.post(f"holds/{hold}/capture", terms).json()["journal_entry"]
        shown = api.get(f"journal-entries/{entry}").json()

        assert shown | terms == shown

    def test_of_which_nothing_is_captured_are_what_its_key_stands_for(self, books):
        api, organization, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 10)).json()["hold"]["id"]

        first, replay = (
            api.post(f"holds/{hold}/capture", {"amount": 0}, key="none") for _ in range(2)
        )
        reused = api.post(f"holds/{hold}/capture", {"amount": 1}, key="none")

        assert first.json() == replay.json()
        assert (first.status_code, first.json()["journal_entry"]) == (200, None)
        assert balance(organization, ann).available == 100_00
        # There is no entry that it could name.
        assert (reused.json()["code"], reused.json()["resource"]) == (
            "idempotency_key_reused", hold,
        )  # fmt: skip

    def test_of_one_reference_are_one_while_it_is_open(self, books):
        api, _, ann, bob = books

        first = api.post("holds", moved(ann, bob, 10, reference="order-1"))
        second, replay = (
            api.post("holds", moved(ann, bob, 10, reference="order-1"), key="second")
            for _ in range(2)
        )
        reused = api.post("holds", moved(ann, bob, 12), key="second")
        dry = api.post("holds", moved(ann, bob, 10, reference="order-1", dry_run=True))
        other = api.post("holds", moved(ann, bob, 11, reference="order-1"))

        # From then on its own key stands for the hold that was there.
        assert first.json() == second.json() == replay.json()
        assert replay["Idempotent-Replayed"] == "true"
        assert (reused.json()["code"], reused.json()["resource"]) == (
            "idempotency_key_reused", first.json()["hold"]["id"],
        )  # fmt: skip
        assert dry.json() == first.json() | {"dry_run": True}
        assert (other.status_code, other.json()["code"]) == (422, "reference_reused")

    @pytest.mark.parametrize(
        ("act", "body", "status", "captured"),
        [
            ("capture", {}, "captured", 10_00),
            ("capture", {"amount": 7_00}, "captured", 7_00),
            ("capture", {"amount": 0}, "captured", 0),
            ("void", {}, "voided", 0),
        ],
    )
    def test_of_one_reference_are_one_after_it_has_ended(self, books, act, body, status, captured):
        api, organization, ann, bob = books
        asked = moved(ann, bob, 10_00, reference="order-1")
        hold = api.post("holds", asked, key="first").json()["hold"]["id"]
        ended = api.post(f"holds/{hold}/{act}", body).json()
        before = fingerprints("ledger_", "core_outbox", locks=False)

        dry = api.post("holds", asked | {"dry_run": True})
        again, replay, first = (
            api.post("holds", asked, key=key) for key in ("second", "second", "first")
        )
        captures = api.post(f"holds/{hold}/capture", {})
        reused = api.post("holds", moved(ann, bob, 12), key="second")

        assert ended["hold"]["status"] == again.json()["hold"]["status"] == status
        assert again.status_code == replay.status_code == 201
        assert again.json() == replay.json() == first.json()
        assert again.json() == ended | {"journal_entry": None}
        assert dry.json() == again.json() | {"dry_run": True}
        assert replay["Idempotent-Replayed"] == "true"
        assert (captures.status_code, captures.json()["code"]) == (409, f"hold_already_{status}")
        assert reused.json()["resource"] == hold
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        assert balance(organization, bob).posted == captured
        assert balance(organization, ann).available == 100_00 - captured
        assert breaches() == []

    @pytest.mark.parametrize("act", ["capture", "void"])
    def test_of_a_reference_that_has_ended_have_its_terms(self, books, act):
        api, _, ann, bob = books
        asked = moved(ann, bob, 10_00, reference="order-1")
        hold = api.post("holds", asked).json()["hold"]["id"]
        api.post(f"holds/{hold}/{act}", {})
        before = fingerprints("ledger_", "core_outbox", locks=False)
        others = [
            asked | terms
            for terms in (
                {"amount": 10_01},
                {"debit_account": encode_id("la", bob), "credit_account": encode_id("la", ann)},
                {"multi_capture": True},
                {"expires_at": "2199-01-01T00:00:00Z"},
            )
        ]

        refused = [api.post("holds", other, key=f"other-{i}") for i, other in enumerate(others)]
        replay = api.post("holds", others[0], key="other-0")
        dry = [api.post("holds", other | {"dry_run": True}) for other in others]

        told = {(one.status_code, one.json()["code"], one.json()["hold"]) for one in refused + dry}
        assert told == {(422, "reference_reused", hold)}
        assert (replay.status_code, replay.json()["code"]) == (422, "reference_reused")
        assert replay["Idempotent-Replayed"] == "true"
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        assert Hold.objects.count() == 1
        assert breaches() == []

    def test_of_one_reference_end_at_the_same_time(self, books):
        api, organization, ann, bob = books
        soon = {"reference": "order-1", "expires_at": "2199-01-01T00:05:00Z"}
        late = {"reference": "order-2", "expires_at": "2199-01-01T00:05:00.000001Z"}
        api.post("holds", moved(ann, bob, 10, reference="order-1"))
        stands = api.post("holds", moved(ann, bob, 10, **late))

        again = api.post("holds", moved(ann, bob, 10, **late))
        refused = [
            api.post("holds", moved(ann, bob, 10, **asked))
            for asked in (soon, soon | {"reference": "order-2"}, {"reference": "order-2"})
        ]

        assert again.json() == stands.json()
        assert [(one.status_code, one.json()["code"]) for one in refused] == [
            (422, "reference_reused")
        ] * 3
        assert Hold.objects.count() == 2
        assert balance(organization, ann).pending_out == 20

    def test_are_read_with_the_balance_at_once(self, books):
        api, _, ann, bob = books
        ids = [api.post("holds", moved(ann, bob, n)).json()["hold"]["id"] for n in (5, 7)]

        shown = api.get(f"ledger-accounts/{encode_id('la', ann)}?expand[]=holds").json()

        assert [hold["id"] for hold in shown["holds"]] == ids[::-1]
        assert shown["pending_out"] == sum(hold["remaining"] for hold in shown["holds"]) == 12
        assert not shown["has_more_holds"]
        assert api.get(f"holds?ledger_account={encode_id('la', ann)}&status=open").json()["data"]

    def test_of_another_organisation_are_not_there(self, books):
        api, _, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 5)).json()["hold"]["id"]
        stranger = Api(create_organization())

        answers = [
            stranger.get(f"holds/{hold}"),
            stranger.post(f"holds/{hold}/capture", {}),
            stranger.post(f"holds/{hold}/void", {}),
        ]

        assert {answer.status_code for answer in answers} == {404}
        assert Hold.objects.get().status == "open"

    def test_of_kassas_own_acts_are_out_of_reach(self, books):
        api, organization, ann, _ = books
        transit = open_account(organization, "payouts:in_transit:EUR", floor=None, internal=True)

        refused = api.post("holds", moved(ann, transit, 5))

        assert (refused.status_code, refused.json()["code"]) == (422, "ledger_account_reserved")

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"amount": 0}, "/amount"),
            ({"amount": 10.0}, "/amount"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
            ({"multi_capture": 1}, "/multi_capture"),
            ({"surprise": 1}, "/surprise"),
        ],
    )
    def test_of_a_wrong_shape_name_the_field(self, books, body, pointer):
        api, _, ann, bob = books

        refused = api.post("holds", moved(ann, bob, 5) | body)

        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == pointer
        assert not Hold.objects.exists()


def rows() -> tuple[int, int, int]:
    return JournalEntry.objects.count(), Posting.objects.count(), Hold.objects.count()


class TestDryRuns:
    def test_say_what_would_happen_and_do_nothing(self, books):
        api, organization, ann, bob = books
        hold = api.post("holds", moved(ann, bob, 20)).json()["hold"]["id"]
        entry = api.post("transfers", moved(ann, bob, 5)).json()["id"]
        before = rows()

        answers = {
            "transfer": api.post("transfers", moved(ann, bob, 30, dry_run=True)),
            "batch": api.post(
                "transfers/batch", {"dry_run": True, "transfers": [moved(ann, bob, 30)]}
            ),
            "hold": api.post("holds", moved(ann, bob, 30, dry_run=True)),
            "capture": api.post(f"holds/{hold}/capture", {"dry_run": True}),
            "void": api.post(f"holds/{hold}/void", {"dry_run": True}),
            "reversal": api.post(f"journal-entries/{entry}/reversal", {"dry_run": True}),
        }

        assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
            answers, 200
        )
        # The hold takes 20, the transfer took 5.
        left = 100_00 - 25
        available = {
            name: answer.json()["balances"][0]["available"] for name, answer in answers.items()
        }
        assert available == {
            "transfer": left - 30,
            "batch": left - 30,
            "hold": left - 30,
            "capture": left,
            "void": left + 20,
            "reversal": left + 5,
        }
        assert all(answer.json()["dry_run"] for answer in answers.values())
        assert rows() == before
        assert balance(organization, ann).available == left

    def test_of_a_hold_show_it_as_it_would_be(self, books):
        api, organization, ann, bob = books
        asked = moved(ann, bob, 30_00, multi_capture=True, reference="r", metadata={"a": "b"},
                      expires_at=print_instant(clock.now() + timedelta(days=1)))  # fmt: skip

        dry = api.post("holds", asked | {"dry_run": True}).json()["hold"]
        real = api.post("holds", asked).json()["hold"]
        again = api.post("holds", asked | {"dry_run": True}, key="again").json()["hold"]

        assert dry == real | {"id": None, "created_at": None}
        assert (real["remaining"], real["status"], again) == (30_00, "open", real)
        for body, (captured, remaining, status) in (
            ({"amount": 10_00}, (10_00, 20_00, "open")),
            ({"amount": 30_00}, (30_00, 0, "captured")),
            ({"amount": 0}, (0, 0, "captured")),
        ):
            told = api.post(f"holds/{real['id']}/capture", body | {"dry_run": True}).json()["hold"]
            assert told == real | {"captured": captured, "remaining": remaining, "status": status}
        told = api.post(f"holds/{real['id']}/void", {"dry_run": True}).json()["hold"]
        assert told == real | {"remaining": 0, "status": "voided"}
        assert api.get(f"holds/{real['id']}").json() == real
        assert balance(organization, ann).available == 70_00

    def test_are_refused_as_the_real_one_would_be(self, books):
        api, _, ann, bob = books

        refused = api.post("transfers", moved(ann, bob, 100_01, dry_run=True))

        assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")


class TestReversals:
    def test_undo_an_entry_once(self, books):
        api, organization, ann, bob = books
        entry = api.post("transfers", moved(ann, bob, 30_00)).json()["id"]
        assert api.get(f"journal-entries/{entry}/reversal").json()["reversible"]

        first = api.post(f"journal-entries/{entry}/reversal", {"reason": "by mistake"}, key="r")
        replay = api.post(f"journal-entries/{entry}/reversal", {"reason": "by mistake"}, key="r")
        second = api.post(f"journal-entries/{entry}/reversal", {})

        assert first.status_code == replay.status_code == 201
        assert replay.json() == first.json() | {"balances": replay.json()["balances"]}
        assert {one["ledger_account"]: one["available"] for one in replay.json()["balances"]} == {
            encode_id("la", ann): 100_00,
            encode_id("la", bob): 0,
        }
        assert (second.status_code, second.json()["code"]) == (409, "already_reversed")
        why = api.get(f"journal-entries/{entry}/reversal").json()
        assert (why["reversible"], why["code"]) == (False, "already_reversed")
        [reversal] = first.json()["journal_entries"]
        assert why["details"] == {"reversal": reversal}
        never = api.get(f"journal-entries/{reversal}/reversal").json()
        assert (never["code"], never["details"]) == ("not_reversible", {"reverses": entry})
        undone = api.post(f"journal-entries/{reversal}/reversal", {}, key="undo-it")
        assert (undone.status_code, undone.json()["code"]) == (422, "not_reversible")
        assert undone.json()["reverses"] == entry
        assert balance(organization, ann).available == 100_00
        assert breaches() == []

    def test_say_why_not_as_the_refusal_would(self, books):
        api, _, ann, bob = books
        entry = api.post("transfers", moved(ann, bob, 30_00)).json()["id"]
        assert api.get(f"journal-entries/{entry}/reversal").json() == {
            "reversible": True, "code": None, "detail": None, "details": None,
        }  # fmt: skip
        api.post("transfers", moved(bob, ann, 1), key="spent")

        why = api.get(f"journal-entries/{entry}/reversal").json()
        refused = api.post(f"journal-entries/{entry}/reversal", {}, key="r")

        assert why["details"] == {
            "ledger_account": encode_id("la", bob), "available": 29_99, "requested": 30_00,
            "min_available": 0,
        }  # fmt: skip
        told = refused.json()
        assert (why["code"], why["detail"]) == (told["code"], told["detail"])
        assert why["details"].items() <= told.items()

    def test_of_a_set_are_all_or_none(self, books):
        api, organization, ann, bob = books
        cleo = open_account(organization, "wallets:cleo:EUR")
        entries = [
            api.post("transfers", moved(ann, bob, 30_00)).json()["id"],
            api.post("transfers", moved(ann, bob, 20_00)).json()["id"],
        ]
        api.post("transfers", moved(bob, cleo, 40_00))

        refused = api.post("journal-entries/reversals", {"journal_entries": entries})
        one = api.post("journal-entries/reversals", {"journal_entries": entries[:1] * 2})

        assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")
        assert (one.json()["code"], one.json()["index"]) == ("already_reversed", 1)
        assert balance(organization, bob).available == 10_00
        api.post("transfers", moved(cleo, bob, 40_00))
        both = api.post("journal-entries/reversals", {"journal_entries": entries})
        assert both.status_code == 201
        assert balance(organization, ann).available == 100_00

    def test_at_the_original_time_have_the_business_time_of_their_entry(self, books):
        api, _, ann, bob = books
        entry = api.post("transfers", moved(ann, bob, 30_00)).json()["id"]

        undone = api.post(f"journal-entries/{entry}/reversal", {"at": "original"})

        assert undone.status_code == 201
        reversal = api.get(f"journal-entries/{undone.json()['journal_entries'][0]}").json()
        original = api.get(f"journal-entries/{entry}").json()
        assert reversal["effective_at"] == original["effective_at"]

    def test_at_the_original_time_are_checked_against_every_later_balance(self, books):
        api, organization, ann, bob = books
        minutes = [(clock.now() - timedelta(minutes=n)).isoformat() for n in (30, 20, 10)]
        entry = api.post("transfers", moved(ann, bob, 50, effective_at=minutes[0])).json()["id"]
        # Bob is at 10 for ten minutes, and has all of it again afterwards.
        api.post("transfers", moved(bob, ann, 40, effective_at=minutes[1]))
        api.post("transfers", moved(ann, bob, 90, effective_at=minutes[2]))

        undone = api.post(f"journal-entries/{entry}/reversal", {"at": "original"})
        now = api.post(f"journal-entries/{entry}/reversal", {"at": "now"})

        assert (undone.status_code, undone.json()["code"]) == (422, "later_balance_below_floor")
        assert undone.json()["balance"] == -40
        assert now.status_code == 201
        assert balance(organization, bob).available == 50


class TestFloors:
    def test_change_at_run_time_and_count_holds(self, books):
        api, organization, ann, bob = books
        api.post("holds", moved(ann, bob, 40_00))
        account = f"ledger-accounts/{encode_id('la', ann)}"

        too_high = api.post(account, {"min_available": 60_01, "reason": "reserve"})
        raised = api.post(account, {"min_available": 60_00, "reason": "reserve"})
        short = api.post("transfers", moved(ann, bob, 1))
        lent = api.post(account, {"min_available": -10_00, "reason": "credit line"})
        gone = api.post("transfers", moved(ann, bob, 70_00))
        beyond = api.post("transfers", moved(ann, bob, 1))

        assert (too_high.status_code, too_high.json()["code"]) == (422, "floor_above_available")
        assert raised.json()["min_available"] == 60_00
        assert short.json()["code"] == beyond.json()["code"] == "insufficient_funds"
        assert (lent.status_code, gone.status_code) == (200, 201)
        assert balance(organization, ann).available == -10_00
        assert breaches() == []

    def test_and_a_frozen_or_closed_account_takes_nothing(self, books):
        api, _, ann, bob = books
        account = f"ledger-accounts/{encode_id('la', ann)}"

        closed = api.post(account, {"status": "closed", "reason": "left"})
        frozen = api.post(account, {"status": "frozen", "reason": "asked by the bank"})
        refused = api.post("transfers", moved(ann, bob, 1))

        assert (closed.status_code, closed.json()["code"]) == (409, "ledger_account_not_empty")
        assert frozen.json()["status"] == "frozen"
        assert refused.json()["code"] == "ledger_account_frozen"

    def test_of_kassas_own_accounts_are_out_of_reach(self, books):
        api, organization, _, _ = books
        own = open_account(organization, "customers:cus_x:available:EUR")

        refused = api.post(
            f"ledger-accounts/{encode_id('la', own)}", {"min_available": -1, "reason": "x"}
        )

        assert (refused.status_code, refused.json()["code"]) == (422, "ledger_code_reserved")


class TestForce:
    def test_needs_its_scope_and_is_audited(self, books):
        api, organization, ann, bob = books
        early = (clock.now() - timedelta(days=400)).isoformat()

        plain = api.post("transfers", moved(ann, bob, 10, effective_at=early))
        forced = api.post("transfers", moved(ann, bob, 10, effective_at=early, force=True))
        lesser = Api(Organization.objects.get(id=organization))
        asked = moved(ann, bob, 10, effective_at=early, force=True)
        without, dry = (lesser.post("transfers", asked | {"dry_run": dry}) for dry in (False, True))

        assert (plain.status_code, plain.json()["code"]) == (422, "later_balance_below_floor")
        assert forced.status_code == 201
        for refused in (without, dry):
            assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert AuditEvent.objects.filter(act="ledger.force_transfer").count() == 1

    def test_of_a_batch_is_audited_for_each_that_it_moved(self, books):
        api, organization, ann, bob = books
        early = {"effective_at": (clock.now() - timedelta(days=400)).isoformat()}
        transfers = [
            moved(ann, bob, 10, force=True, **early),
            moved(ann, bob, 20),
            moved(ann, bob, 30, **early),
            # Today's floor holds all the same.
            moved(ann, bob, 200_00, force=True, **early),
            moved(ann, bob, 40, force=True, **early),
        ]
        asked = {"mode": "independent", "transfers": transfers}

        dry = api.post("transfers/batch", asked | {"dry_run": True})
        lesser = Api(Organization.objects.get(id=organization))
        without = lesser.post("transfers/batch", asked)
        # Whichever of them it is that is forced.
        last = lesser.post("transfers/batch", {"mode": "independent", "transfers": transfers[1:]})
        assert (last.status_code, last.json()["code"]) == (403, "insufficient_scope")
        assert not AuditEvent.objects.filter(act="ledger.force_transfer").exists()
        done = api.post("transfers/batch", asked, key="b")
        api.post("transfers/batch", asked, key="b")

        codes = [None, None, "later_balance_below_floor", "insufficient_funds", None]
        for answer in (dry, done):
            assert [one["code"] for one in answer.json()["outcomes"]] == codes
        assert (without.status_code, without.json()["code"]) == (403, "insufficient_scope")
        forced = [done.json()["outcomes"][place]["transfer"] for place in (0, 4)]
        audited = AuditEvent.objects.filter(act="ledger.force_transfer")
        assert sorted(row.after["journal_entry"] for row in audited) == sorted(forced)
        assert balance(organization, bob).posted == 70
        assert breaches() == []

    def test_up_to_moves_what_the_floor_allows(self, books):
        api, _, ann, bob = books

        most = api.post("transfers", moved(ann, bob, 150_00, up_to=True), key="u")
        replay = api.post("transfers", moved(ann, bob, 150_00, up_to=True), key="u")
        nothing = api.post("transfers", moved(ann, bob, 1, up_to=True))

        assert most.json()["amount"] == replay.json()["amount"] == 100_00
        assert (nothing.status_code, nothing.json()["code"]) == (422, "insufficient_funds")
