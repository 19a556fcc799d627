"""The books are corrected by two people: an entry undone or posted as one asked, another agreed."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection
from django.test import Client

from apps.accounts.errors import CapabilityMissing
from apps.accounts.models import Organization
from apps.approvals import errors as approval_errors
from apps.approvals import operations as approvals
from apps.approvals import registry
from apps.approvals.models import ApprovalRequest
from apps.approvals.rules import Policy
from apps.approvals.states import Verdict
from apps.backoffice import errors, operations
from apps.backoffice.invariants import INVARIANTS
from apps.backoffice.models import Correction
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.invariants import check
from apps.core.models import AuditEvent
from apps.ledger import errors as ledger_errors
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.models import FxTransfer, JournalEntry
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import Leg
from tests.accounts import factories as accounts
from tests.ledger.exchanges import exchange
from tests.ledger.factories import (
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.test_reverse_fx_transfer import undo_alone
from tests.payouts import people
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

YESTERDAY = NOW - timedelta(days=1)


class House:
    """An organisation where Ann was paid 100.00 and gave Bob 30.00 of it."""

    def __init__(self):
        self.id = create_organization()
        self.ann = open_account(self.id, "wallets:ann:EUR")
        self.bob = open_account(self.id, "wallets:bob:EUR")
        self.fees = open_account(self.id, "fees:f:EUR", type_="income", floor=None, internal=True)
        fund(self.id, self.ann, 100_00)
        self.paid_in = self.entries().get().id
        post_transfer(self.id, self.ann, self.bob, 30_00, key="gift")
        self.gift = self.entries().exclude(id=self.paid_in).get().id
        self.maker = people.staff("finance_maker")
        self.approver = people.staff("finance_approver")

    def entries(self):
        return JournalEntry.objects.filter(organization_id=self.id)

    def reverse(self, *, entry=None, actor=None, at="now", key="ask"):
        return operations.request_reversal(
            organization_id=self.id,
            entry_id=entry or self.gift,
            at=at,
            reason="Sent to the wrong Bob",
            idempotency_key=key,
            actor=actor or self.maker,
            now=NOW,
        )

    def adjust(self, *legs, actor=None, key="ask", **more):
        return operations.request_adjustment(
            organization_id=self.id,
            entry=EntryRequest(legs=legs, description="Goodwill", **more),
            reason="Goodwill for the delay",
            idempotency_key=key,
            actor=actor or self.maker,
            now=NOW,
        )

    def goodwill(self, **more):
        """Give Ann 5.00 of the fees."""
        return self.adjust(Leg(self.fees, 5_00, "EUR"), Leg(self.ann, -5_00, "EUR"), **more)

    def decide(self, asked, actor=None, *, verdict=Verdict.APPROVE, key="decide"):
        return approvals.decide_approval(
            organization_id=self.id,
            request_id=asked.approval_id,
            verdict=verdict,
            reason="Looked at it",
            idempotency_key=key,
            actor=actor or self.approver,
            now=NOW,
        )

    def standing(self):
        """Return what Ann, Bob and the fees have, and how many entries there are."""
        return (
            *(balance(self.id, account).posted for account in (self.ann, self.bob, self.fees)),
            self.entries().count(),
        )


POSTED = "state = 'posted', closed_at = now(), posted_id = entry_id"
UNTOUCHED = (70_00, 30_00, 0, 2)


@pytest.fixture
def house():
    """Return the house; whatever a test does in it, what must hold of corrections holds after."""
    made = House()
    yield made
    assert [breach for _, breach in check(INVARIANTS) if breach] == []


class TestRequestReversal:
    def test_posts_the_opposite_once_another_person_agrees(self, house):
        asked = house.reverse()
        assert (asked.state, house.standing()) == ("open", UNTOUCHED)

        house.decide(asked)

        assert house.standing() == (100_00, 0, 0, 3)
        undone = books.get_entry(organization_id=house.id, entry_id=house.gift)
        row = Correction.objects.get()
        assert (row.state, row.posted_id) == ("posted", undone.reversed_by)
        assert (row.requested_by, row.approved_by) == (
            house.maker.principal,
            house.approver.principal,
        )
        trail = AuditEvent.objects.filter(act="ledger.reverse_entry", subject_id=str(house.gift))
        assert {(one.principal, one.reason) for one in trail} == {
            (house.maker.principal, "Sent to the wrong Bob"),
            (house.approver.principal, "Looked at it"),
        }

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    def test_of_an_exchange_undoes_it_as_a_whole(self, house, side):
        dollars = open_account(house.id, "wallets:ann:USD")
        fx = FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))

        asked = house.reverse(entry=getattr(fx, side))
        assert len(Correction.objects.get().legs) == 4
        house.decide(asked)

        assert house.standing()[0] == 70_00
        assert balance(house.id, dollars).posted == 0
        undone = books.get_entry(organization_id=house.id, entry_id=getattr(fx, side))
        assert Correction.objects.get().posted_id == undone.reversed_by

    @pytest.mark.parametrize("sides", [("sold", "bought"), ("bought", "sold")])
    def test_of_an_exchange_that_changed_since_posts_nothing_else(self, house, sides):
        dollars = open_account(house.id, "wallets:ann:USD")
        fx = FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))
        undone, standing = (getattr(fx, f"{side}_entry_id") for side in sides)
        asked = house.reverse(entry=standing)
        # As a release that took one of the two for itself did.
        undo_alone(house.id, undone)
        before = house.standing()

        with pytest.raises(approval_errors.ApprovalStale):
            house.decide(asked)

        assert house.standing() == before
        waiting = Correction.objects.get()
        assert waiting.state == "waiting"
        operations.withdraw_correction(
            organization_id=house.id, correction_id=waiting.id, reason="Half is undone",
            idempotency_key="withdraw", actor=house.maker, now=NOW,
        )  # fmt: skip
        house.decide(house.reverse(entry=standing, key="anew"), key="agreed")
        assert len(Correction.objects.get(state="posted").legs) == 2
        assert house.standing()[0] == 70_00
        assert balance(house.id, dollars).posted == 0

    def test_at_the_original_time_has_the_business_time_of_its_entry(self, house):
        house.decide(house.reverse(at="original"))

        undone = books.get_entry(organization_id=house.id, entry_id=house.gift)
        reversal = books.get_entry(organization_id=house.id, entry_id=undone.reversed_by)
        assert reversal.effective_at == undone.effective_at

    def test_denied_moves_nothing_and_can_be_asked_for_anew(self, house):
        house.decide(house.reverse(), verdict=Verdict.DENY)

        assert house.standing() == UNTOUCHED
        assert Correction.objects.get().state == "dropped"
        assert house.reverse(key="again").state == "open"

    def test_is_not_decided_by_who_asked(self, house):
        asked = house.reverse(actor=house.approver)

        with pytest.raises(approval_errors.CannotApproveOwn):
            house.decide(asked)
        assert house.standing() == UNTOUCHED

    def test_is_not_decided_by_who_may_only_ask(self, house):
        asked = house.reverse()

        with pytest.raises(CapabilityMissing):
            house.decide(asked, people.staff("finance_maker"))
        assert house.standing() == UNTOUCHED

    @pytest.mark.parametrize("role", ["support_lead", "risk_manager", "auditor"])
    def test_by_another_role_is_refused(self, house, role):
        with pytest.raises(CapabilityMissing):
            house.reverse(actor=people.staff(role))

        assert not Correction.objects.exists()
        assert not ApprovalRequest.objects.exists()

    @pytest.mark.parametrize("turn", range(5))
    def test_agreed_to_by_two_at_once_is_posted_once(self, house, turn):
        asked = house.reverse()

        outcomes = race(
            lambda: house.decide(asked, key="a"),
            lambda: house.decide(asked, people.staff("finance_approver"), key="b"),
        )

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["ApprovalClosed", "ApprovalRequest"]
        assert house.standing() == (100_00, 0, 0, 3)

    @pytest.mark.parametrize("turn", range(5))
    def test_of_two_at_once_makes_one_request(self, house, turn):
        outcomes = race(lambda: house.reverse(key="a"), lambda: house.reverse(key="b"))

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["AskedFor", "ReversalAskedForAlready"]
        assert (Correction.objects.count(), ApprovalRequest.objects.count()) == (1, 1)

    def test_again_with_its_key_is_the_same_request(self, house):
        first = house.reverse()

        assert house.reverse() == first
        assert Correction.objects.count() == 1

    def test_whose_entry_was_reversed_meanwhile_is_refused_and_stays_to_be_denied(self, house):
        asked = house.reverse()
        ledger.reverse_entries(
            organization_id=house.id,
            entry_ids=[house.gift],
            at="now",
            reason="The client was faster",
            idempotency_key="client",
            actor=Actor.job("tests"),
            now=NOW,
        )
        stood = house.standing()

        with pytest.raises(ledger_errors.AlreadyReversed):
            house.decide(asked)
        assert house.standing() == stood
        assert Correction.objects.get().state == "waiting"

        house.decide(asked, verdict=Verdict.DENY, key="deny")
        assert Correction.objects.get().state == "dropped"

    def test_whose_money_was_spent_meanwhile_is_refused(self, house):
        asked = house.reverse()
        post_transfer(house.id, house.bob, house.ann, 10_00, key="spent")
        stood = house.standing()

        with pytest.raises(ledger_errors.InsufficientFunds):
            house.decide(asked)
        assert house.standing() == stood

    def test_of_what_a_bank_line_made_is_refused(self, house):
        with pytest.raises(ledger_errors.LedgerAccountReserved, match=r"bank:ba_1:EUR"):
            house.reverse(entry=house.paid_in)

        assert not Correction.objects.exists()

    def test_of_a_reversal_is_refused(self, house):
        house.decide(house.reverse())
        undone = books.get_entry(organization_id=house.id, entry_id=house.gift)

        with pytest.raises(ledger_errors.NotReversible):
            house.reverse(entry=undone.reversed_by, key="again")

    def test_of_another_organizations_entry_is_refused(self, house):
        other = House()

        with pytest.raises(ledger_errors.JournalEntryNotFound):
            house.reverse(entry=other.gift)
        assert not Correction.objects.exists()

    def test_under_a_policy_that_asks_nobody_is_refused(self, house):
        proposed = approvals.propose_policy(
            organization_id=house.id,
            act="ledger.reverse_entry",
            policy=Policy(),
            reason="We trust each other",
            idempotency_key="policy",
            actor=house.maker,
            now=NOW,
        )
        waiting = ApprovalRequest.objects.get(subject_id=proposed.id)
        approvals.decide_approval(
            organization_id=house.id,
            request_id=waiting.id,
            verdict=Verdict.APPROVE,
            reason="Looked at it",
            idempotency_key="policy yes",
            actor=house.approver,
            now=NOW,
        )

        with pytest.raises(ledger_errors.TwoPeopleNeeded):
            house.reverse()
        assert house.standing() == UNTOUCHED


class TestRequestAdjustment:
    def test_posts_the_entry_once_another_person_agrees(self, house):
        asked = house.goodwill(reference="goodwill-7", effective_at=YESTERDAY)
        assert house.standing() == UNTOUCHED

        house.decide(asked)

        assert house.standing() == (75_00, 30_00, -5_00, 3)
        posted = books.get_entry(
            organization_id=house.id, entry_id=Correction.objects.get().posted_id
        )
        assert (posted.kind, posted.reference, posted.description, posted.effective_at) == (
            "adjustment",
            "goodwill-7",
            "Goodwill",
            YESTERDAY,
        )

    def test_can_be_reversed_by_two_people_as_well(self, house):
        house.decide(house.goodwill())
        posted = Correction.objects.get().posted_id

        house.decide(house.reverse(entry=posted, key="undo"), key="undo yes")

        assert house.standing() == (70_00, 30_00, 0, 4)

    def test_that_does_not_balance_is_refused(self, house):
        with pytest.raises(ledger_errors.EntryNotBalanced):
            house.adjust(Leg(house.fees, 5_00, "EUR"), Leg(house.ann, -4_00, "EUR"))

        assert not Correction.objects.exists()

    def test_on_a_bank_account_is_refused(self, house):
        bank = books.account_ids(organization_id=house.id, codes=["bank:ba_1:EUR"])

        with pytest.raises(ledger_errors.LedgerAccountReserved):
            house.adjust(Leg(bank["bank:ba_1:EUR"], 5_00, "EUR"), Leg(house.ann, -5_00, "EUR"))
        assert not Correction.objects.exists()

    def test_on_another_organizations_account_is_refused(self, house):
        other = House()

        with pytest.raises(ledger_errors.LedgerAccountNotFound):
            house.adjust(Leg(house.fees, 5_00, "EUR"), Leg(other.ann, -5_00, "EUR"))
        assert (house.standing(), other.standing()) == (UNTOUCHED, UNTOUCHED)

    def test_without_the_money_is_refused_as_it_is_agreed_to(self, house):
        asked = house.adjust(Leg(house.bob, 31_00, "EUR"), Leg(house.ann, -31_00, "EUR"))

        with pytest.raises(ledger_errors.InsufficientFunds):
            house.decide(asked)
        assert house.standing() == UNTOUCHED

    def test_under_a_reference_that_stands_is_refused_as_it_is_agreed_to(self, house):
        house.decide(house.goodwill(reference="goodwill-7"))
        stood = house.standing()
        again = house.goodwill(reference="goodwill-7", key="again")

        with pytest.raises(ledger_errors.ReferenceReused):
            house.decide(again, key="again yes")
        assert house.standing() == stood

    def test_is_not_decided_by_who_asked(self, house):
        asked = house.goodwill(actor=house.approver)

        with pytest.raises(approval_errors.CannotApproveOwn):
            house.decide(asked)
        assert house.standing() == UNTOUCHED

    def test_by_another_role_is_refused(self, house):
        with pytest.raises(CapabilityMissing):
            house.goodwill(actor=people.staff("support_lead"))

        assert not Correction.objects.exists()

    def test_again_with_its_key_is_the_same_request(self, house):
        assert house.goodwill() == house.goodwill()
        assert Correction.objects.count() == 1

    def test_is_told_in_the_inbox_as_it_was_asked_for(self, house):
        asked = house.goodwill()

        request = ApprovalRequest.objects.get(id=asked.approval_id)
        act = registry.get_act(request.act)
        told = act.describe(house.id, [request.subject_id])[request.subject_id]
        assert told["title"] == "Adjust the books by 5.00 EUR"
        snapshot = act.snapshot(house.id, request.subject_id)
        assert snapshot["posting_1"] == "debit 5.00 EUR on fees:f:EUR"
        assert snapshot["posting_2"] == "credit 5.00 EUR on wallets:ann:EUR"
        assert act.facts(house.id, request.subject_id).amount_minor == 5_00

    def test_over_its_time_is_dropped(self, house):
        asked = house.goodwill()

        approvals.expire_approval(
            organization_id=house.id, request_id=asked.approval_id, now=NOW + timedelta(hours=73)
        )

        assert Correction.objects.get().state == "dropped"
        assert house.standing() == UNTOUCHED


class TestWithdrawCorrection:
    @staticmethod
    def withdraw(house, *, actor=None, key="withdraw"):
        return operations.withdraw_correction(
            organization_id=house.id,
            correction_id=Correction.objects.get().id,
            reason="Bob paid it back",
            idempotency_key=key,
            actor=actor or house.maker,
            now=NOW,
        )

    def test_drops_it_with_its_request(self, house):
        asked = house.reverse()

        assert self.withdraw(house).state == "dropped"

        with pytest.raises(approval_errors.ApprovalClosed):
            house.decide(asked)
        assert house.standing() == UNTOUCHED

    def test_again_with_its_key_changes_nothing(self, house):
        house.reverse()

        assert self.withdraw(house).closed_at == self.withdraw(house).closed_at

    def test_of_what_was_posted_is_refused(self, house):
        house.decide(house.reverse())

        with pytest.raises(errors.CorrectionClosed):
            self.withdraw(house)
        assert house.standing() == (100_00, 0, 0, 3)

    def test_by_another_role_is_refused(self, house):
        house.reverse()

        with pytest.raises(CapabilityMissing):
            self.withdraw(house, actor=people.staff("support_lead"))
        assert Correction.objects.get().state == "waiting"

    @pytest.mark.parametrize("turn", range(5))
    def test_and_agreeing_at_once_have_one_winner(self, house, turn):
        asked = house.reverse()

        outcomes = race(lambda: self.withdraw(house), lambda: house.decide(asked))

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names in (
            ["ApprovalClosed", "Correction"],
            ["ApprovalRequest", "CorrectionClosed"],
        )
        posted = Correction.objects.get().state == "posted"
        assert house.standing() == ((100_00, 0, 0, 3) if posted else UNTOUCHED)

    def test_of_another_organizations_is_refused(self, house):
        house.reverse()

        with pytest.raises(errors.CorrectionNotFound):
            operations.withdraw_correction(
                organization_id=create_organization(),
                correction_id=Correction.objects.get().id,
                reason="Not ours",
                idempotency_key="withdraw",
                actor=house.maker,
                now=NOW,
            )
        assert Correction.objects.get().state == "waiting"


class TestTheTable:
    """What Postgres refuses, past every operation."""

    @pytest.mark.parametrize(
        ("change", "constraint"),
        [
            ("reason = 'Another'", "correction_is_what_was_asked"),
            ("legs = '[]'", "correction_is_what_was_asked"),
            ("state = 'dropped'", "correction_is_closed_iff_final"),
            ("state = 'posted', closed_at = now()", "correction_is_posted_by_two"),
            (f"{POSTED}, approved_by = requested_by", "correction_is_posted_by_two"),
        ],
    )
    def test_refuses_a_row_that_says_something_else(self, house, change, constraint):
        house.reverse()

        with pytest.raises(IntegrityError, match=constraint), connection.cursor() as cursor:
            cursor.execute(f"UPDATE backoffice_correction SET {change}")

    def test_refuses_to_open_again_what_was_closed(self, house):
        house.decide(house.reverse(), verdict=Verdict.DENY)

        with (
            pytest.raises(IntegrityError, match="correction_moves"),
            connection.cursor() as cursor,
        ):
            cursor.execute("UPDATE backoffice_correction SET state = 'waiting', closed_at = NULL")


class TestTheInvariants:
    """Each names the row that breaks it; what breaks them is put back after."""

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("legs = '[]'", "correction_posted_what_was_asked_for"),
            ("entry_id = posted_id", "correction_posted_undoes_its_entry"),
            (
                "state = 'waiting', closed_at = NULL, posted_id = NULL, approved_by = ''",
                "correction_waits_for_somebody",
            ),
        ],
    )
    def test_name_what_somebody_changed_past_every_guard(self, house, change, name):
        house.decide(house.reverse())
        row = Correction.objects.get()

        self.forge(change)

        breaches = {key: breach for key, breach in check(INVARIANTS) if breach}
        assert set(breaches) == {name}
        assert breaches[name].rows[0]["id"] == row.id
        self.forge("", row)

    @staticmethod
    def forge(change, row=None):
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            if row is None:
                cursor.execute(f"UPDATE backoffice_correction SET {change}")
            else:
                row.save()
            cursor.execute("SET session_replication_role = DEFAULT")


class TestTheLedger:
    def test_refuses_for_itself_if_both_are_one_person(self, house):
        with pytest.raises(ledger_errors.TwoPeopleNeeded):
            people.in_transaction(
                lambda: ledger.reverse_by_hand(
                    organization_id=house.id,
                    entry_id=house.gift,
                    at="now",
                    requested_by="staff:1",
                    approved_by="staff:1",
                    reason="Alone",
                    actor=house.maker,
                    now=NOW,
                )
            )
        assert house.standing() == UNTOUCHED


class TestTheScreens:
    @pytest.fixture
    def browse(self, house):
        def signed_in(*roles):
            client = Client()
            client.force_login(accounts.create_staff(*roles))
            return client

        return signed_in

    @staticmethod
    def fields(text):
        found = re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', text)
        return {name: value for name, value in found if name != "csrfmiddlewaretoken"}

    @staticmethod
    def url(house, act, entry=None):
        return f"/admin/ledger/journalentry/{encode_id('je', entry or house.gift)}/act/{act}/"

    def test_preview_a_reversal_before_it_is_asked_for(self, house, browse):
        client, url = browse("finance_maker"), self.url(house, "reverse")
        opened = client.get(url).content.decode()
        assert "Reverse 30.00 EUR" in opened
        sent = {"at": "now", "reason": "Sent to the wrong Bob"}

        seen = client.post(url, self.fields(opened) | sent)
        shown = seen.content.decode()

        assert seen.status_code == 200
        assert "What would be posted" in shown
        assert ">100.00" in shown
        assert not Correction.objects.exists()

        answer = client.post(url, self.fields(shown) | sent, follow=True)
        assert "Asked; the request is open" in answer.content.decode()
        assert Correction.objects.get().state == "waiting"
        assert house.standing() == UNTOUCHED

    def test_show_what_waits_on_the_entry_s_page(self, house, browse):
        client, page = (
            browse("finance_maker"),
            f"/admin/ledger/journalentry/{encode_id('je', house.gift)}/",
        )
        assert "Its reversal waits" not in client.get(page).content.decode()
        asked = house.reverse()

        shown = client.get(page).content.decode()
        other = client.get(
            page.replace(encode_id("je", house.gift), encode_id("je", house.paid_in))
        )

        link = f'href="/admin/approvals/approvalrequest/{encode_id("apr", asked.approval_id)}/"'
        assert "Its reversal waits" in shown
        assert link in shown
        assert "It waits for a second person already." in shown
        assert "Its reversal waits" not in other.content.decode()

        house.decide(asked)
        assert "Its reversal waits" not in client.get(page).content.decode()

    def test_show_what_waits_on_both_sides_of_an_exchange(self, house, browse):
        dollars = open_account(house.id, "wallets:ann:USD")
        fx = FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))
        house.reverse(entry=fx.sold_entry_id)

        for entry in (fx.sold_entry_id, fx.bought_entry_id):
            page = f"/admin/ledger/journalentry/{encode_id('je', entry)}/"
            assert "Its reversal waits" in browse("finance_maker").get(page).content.decode()

    @pytest.mark.parametrize(("side", "other"), [("sold", "bought"), ("bought", "sold")])
    def test_show_of_an_exchange_both_sides(self, house, browse, side, other):
        dollars = open_account(house.id, "wallets:ann:USD")
        fx = FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))
        entry, twin = (getattr(fx, f"{one}_entry_id") for one in (side, other))
        page = f"/admin/ledger/journalentry/{encode_id('je', entry)}/"

        text = browse("finance_maker").get(page).content.decode()

        assert ">Reverse 10.00 EUR for 10.84 USD</a>" in text
        assert " at 1.08456</dd>" in text
        assert f'href="/admin/ledger/journalentry/{encode_id("je", twin)}/"' in text

    def test_say_which_entry_takes_back_which(self, house, browse):
        house.decide(house.reverse())
        undoing = house.entries().get(reverses_id=house.gift).id
        client = browse("finance_maker")

        for entry, said, other in (
            (house.gift, "Reversed by", undoing),
            (undoing, "Reverses", house.gift),
        ):
            page = client.get(f"/admin/ledger/journalentry/{encode_id('je', entry)}/")
            fact = page.content.decode().partition(f"<dt>{said}</dt>")[2].partition("</dd>")[0]
            assert encode_id("je", other) in fact

    def test_preview_anew_what_was_changed_since(self, house, browse):
        client, url = browse("finance_maker"), self.url(house, "reverse")
        sent = {"at": "now", "reason": "Sent to the wrong Bob"}
        shown = client.post(url, self.fields(client.get(url).content.decode()) | sent)

        answer = client.post(url, self.fields(shown.content.decode()) | sent | {"at": "original"})

        assert "What would be posted" in answer.content.decode()
        assert not Correction.objects.exists()

    def test_say_why_it_cannot_be_reversed(self, house, browse):
        client = browse("finance_maker")
        page = client.get(f"/admin/ledger/journalentry/{encode_id('je', house.paid_in)}/")
        assert "bank:ba_1:EUR is moved by Kassa&#x27;s own acts only." in page.content.decode()

        post_transfer(house.id, house.bob, house.ann, 10_00, key="spent")
        url = self.url(house, "reverse")
        sent = {"at": "now", "reason": "Sent to the wrong Bob"}
        answer = client.post(url, self.fields(client.get(url).content.decode()) | sent)

        assert answer.status_code == 422
        assert "insufficient_funds" in answer.content.decode()
        # Which account it is that does not cover it.
        about = answer.content.decode().split("insufficient_funds")[0].rsplit("<b>", 1)[1]
        assert "Ledger account: " in about
        assert f'href="/admin/ledger/ledgeraccount/{encode_id("la", house.bob)}/"' in about
        assert not Correction.objects.exists()

    def test_ask_for_an_adjustment_written_by_hand(self, house, browse):
        client, url = browse("finance_maker"), "/admin/ledger/journalentry/act/adjust/"
        sent = {
            "organization": str(house.id),
            "postings_account": ["fees:f:EUR", encode_id("la", house.ann), ""],
            "postings_debit": ["5.00", "", ""],
            "postings_credit": ["", "5", ""],
            "description": "Goodwill",
            "effective_at": "2026-11-01T12:00",
            "reason": "Goodwill for the delay",
        }
        shown = client.post(url, self.fields(client.get(url).content.decode()) | sent)
        assert "What would be posted" in shown.content.decode()
        assert ">75.00" in shown.content.decode()

        client.post(url, self.fields(shown.content.decode()) | sent)

        row = Correction.objects.get()
        assert [leg["amount_minor"] for leg in row.legs] == [5_00, -5_00]
        assert row.effective_at == datetime(2026, 11, 1, 12, tzinfo=UTC)
        assert house.standing() == UNTOUCHED

    @pytest.mark.parametrize("of_entry", [True, False])
    def test_read_the_business_time_by_the_clocks_of_the_organization(
        self, house, browse, of_entry
    ):
        Organization.objects.filter(pk=house.id).update(time_zone="Europe/Berlin")
        anywhere = "/admin/ledger/journalentry/act/adjust/"
        client, url = browse("finance_maker"), self.url(house, "adjust") if of_entry else anywhere
        opened = client.get(url).content.decode()
        sent = {
            **({} if of_entry else {"organization": str(house.id)}),
            "postings_account": ["fees:f:EUR", "wallets:ann:EUR"],
            "postings_debit": ["5.00", ""],
            "postings_credit": ["", "5.00"],
            "description": "Goodwill",
            "effective_at": "2026-11-01T00:30",
            "reason": "Goodwill for the delay",
        }

        shown = client.post(url, self.fields(opened) | sent).content.decode()
        client.post(url, self.fields(shown) | sent)

        inbox = browse("finance_approver")
        request = encode_id("apr", ApprovalRequest.objects.get().id)
        asked = inbox.get(f"/admin/approvals/approvalrequest/{request}/").content.decode()

        assert f"By the clocks of {'Europe/Berlin' if of_entry else 'the organization'}" in opened
        # Who agrees reads the month that was meant; what is agreed to says it in UTC too.
        assert "2026-11-01 00:30:00 Europe/Berlin" in asked
        assert "2026-10-31 23:30:00 UTC" in asked
        assert Correction.objects.get().effective_at == datetime(2026, 10, 31, 23, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ([("fees:f:EUR", "5", "")], "two postings or more"),
            (
                [("fees:f:EUR", "5", "5"), ("wallets:ann:EUR", "", "5")],
                "Row 1: each row names",
            ),
            (
                [("fees:x:EUR", "5", ""), ("wallets:ann:EUR", "", "5")],
                "Row 1: there is no account",
            ),
            (
                [("fees:f:EUR", "5", ""), ("wallets:ann:EUR", "", "5,0")],
                "Row 2: &#x27;5,0&#x27;",
            ),
            ([("fees:f:EUR", "5.001", ""), ("wallets:ann:EUR", "", "5")], "more decimals"),
            ([("fees:f:EUR", "-5", ""), ("wallets:ann:EUR", "", "5")], "more than zero"),
            ([("fees:f:EUR", "5", ""), ("fees:f:EUR", "", "5")], "in one row"),
        ],
    )
    def test_say_what_is_wrong_with_a_posting(self, house, browse, rows, said):
        client, url = browse("finance_maker"), self.url(house, "adjust")
        accounts_, debits, credits_ = zip(*rows, strict=True)

        answer = client.post(
            url,
            self.fields(client.get(url).content.decode())
            | {
                "postings_account": accounts_,
                "postings_debit": debits,
                "postings_credit": credits_,
                "description": "Goodwill",
                "reason": "Goodwill for the delay",
            },
        )

        assert answer.status_code == 400
        assert said in answer.content.decode()
        assert not Correction.objects.exists()

    @pytest.mark.parametrize(("year", "status"), [("2199", 200), ("2206", 400)])
    def test_are_of_no_business_time_that_nobody_could_ask_for(self, house, browse, year, status):
        client, url = browse("finance_maker"), self.url(house, "adjust")

        answer = client.post(
            url,
            self.fields(client.get(url).content.decode())
            | {
                "postings_account": ["fees:f:EUR", "wallets:ann:EUR"],
                "postings_debit": ["5.00", ""],
                "postings_credit": ["", "5.00"],
                "description": "Goodwill",
                "effective_at": f"{year}-06-15T12:00",
                "reason": "Goodwill for the delay",
            },
        )

        assert answer.status_code == status
        assert ("years up to 2199" in answer.content.decode()) == (status == 400)

    def test_open_an_adjustment_with_the_accounts_of_the_entry(self, house, browse):
        text = browse("finance_maker").get(self.url(house, "adjust")).content.decode()

        assert 'value="wallets:ann:EUR"' in text
        assert 'value="wallets:bob:EUR"' in text

    @pytest.mark.parametrize("act", ["reverse", "adjust"])
    def test_are_not_for_other_roles(self, house, browse, act):
        client = browse("support_lead")

        assert client.get(self.url(house, act)).status_code == 403
        assert client.post(self.url(house, act), {"reason": "Because I can"}).status_code == 403
        assert not Correction.objects.exists()

    def test_show_what_was_asked_for_and_take_it_back(self, house, browse):
        house.reverse()
        row = Correction.objects.get()
        client, url = browse("finance_maker"), f"/admin/backoffice/correction/{row.id}/"
        assert "wallets:ann:EUR" in client.get(url).content.decode()

        form = self.fields(client.get(f"{url}act/withdraw/").content.decode())
        client.post(f"{url}act/withdraw/", form | {"reason": "Bob paid it back"})

        row.refresh_from_db()
        assert row.state == "dropped"
