import pytest

from apps.approvals import operations as approvals
from apps.approvals.errors import CannotApproveOwn
from apps.approvals.models import ApprovalRequest
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.reconciliation import operations
from apps.reconciliation.errors import OpeningBalanceNotFound
from apps.reconciliation.models import OpeningBalance
from tests.banking.factories import NOW, create_bank_account, create_organization, import_file
from tests.banking.statements import Entry, Made, camt053
from tests.payouts import people
from tests.reconciliation.factories import assert_books_hold, match_all, posted
from tests.support import past_the_guards, race

pytestmark = pytest.mark.django_db(transaction=True)

STATEMENT = camt053(Made(entries=(Entry(amount=10_00),), opening=200_50))


@pytest.fixture
def organization_id():
    return create_organization()


@pytest.fixture
def account(organization_id):
    return create_bank_account(organization_id)


def bring(organization_id, *, actor, content=STATEMENT):
    import_file(organization_id, content, actor=actor)
    match_all()
    return ApprovalRequest.objects.get(state="open")


def decide(request, person, verdict="approve"):
    return approvals.decide_approval(
        organization_id=request.organization_id,
        request_id=request.id,
        verdict=verdict,
        reason="seen on the statement",
        idempotency_key=new_id().hex,
        actor=person,
        now=NOW,
    )


def ask_again(organization_id, account, actor, key="again"):
    return operations.request_opening(
        organization_id=organization_id,
        bank_account_id=account.id,
        reason="once more",
        idempotency_key=key,
        actor=actor,
        now=NOW,
    )


class TestAnOpeningBalance:
    def test_is_in_the_books_once_another_person_agrees(self, organization_id, account):
        request = bring(organization_id, actor=people.staff("finance_maker"))
        before = posted(organization_id, "bank:")

        decide(request, people.approver())

        assert (before, posted(organization_id, "bank:")) == (10_00, 210_50)
        assert posted(organization_id, "equity:opening:EUR") == 200_50
        assert OpeningBalance.objects.get().state == "accepted"
        assert_books_hold()

    def test_is_not_agreed_to_by_who_brought_it(self, organization_id, account):
        maker = people.staff("finance_approver")
        request = bring(organization_id, actor=maker)

        with pytest.raises(CannotApproveOwn):
            decide(request, maker)

        assert posted(organization_id, "bank:") == 10_00

    def test_brought_by_an_api_key_is_not_agreed_to_by_its_issuer(self, organization_id, account):
        issuer = people.staff("finance_approver")
        key = Actor(kind="api_key", id=str(new_id()), principal=issuer.principal)
        request = bring(organization_id, actor=key)

        with pytest.raises(CannotApproveOwn):
            decide(request, issuer)

    def test_that_is_overdrawn_turns_the_entry_round(self, organization_id, account):
        content = camt053(Made(entries=(Entry(amount=10_00),), opening=-50_00))
        request = bring(organization_id, actor=people.staff("finance_maker"), content=content)

        decide(request, people.approver())

        assert posted(organization_id, "bank:") == -40_00
        assert posted(organization_id, "equity:opening:EUR") == -50_00
        assert_books_hold()

    def test_of_nothing_asks_nobody(self, organization_id, account):
        import_file(organization_id, camt053(Made(entries=(Entry(amount=10_00),))))

        assert not ApprovalRequest.objects.exists()
        assert ask_again(organization_id, account, people.staff("finance_maker")) is None

    def test_denied_can_be_asked_for_again(self, organization_id, account):
        maker = people.staff("finance_maker")
        decide(bring(organization_id, actor=maker), people.approver(), verdict="deny")
        denied = OpeningBalance.objects.get().state

        again = ask_again(organization_id, account, maker)
        replayed = ask_again(organization_id, account, maker)
        decide(again, people.approver())

        assert (denied, again.id) == ("denied", replayed.id)
        assert posted(organization_id, "bank:") == 210_50

    def test_agreed_to_twice_at_once_is_posted_once(self, organization_id, account):
        request = bring(organization_id, actor=people.staff("finance_maker"))
        one, two = people.approver(), people.approver()

        race(lambda: decide(request, one), lambda: decide(request, two))

        assert posted(organization_id, "bank:") == 210_50
        assert_books_hold()

    def test_that_is_gone_with_its_row_is_not_agreed_to(self, organization_id, account):
        request = bring(organization_id, actor=people.staff("finance_maker"))
        past_the_guards("DELETE FROM reconciliation_opening")

        with pytest.raises(OpeningBalanceNotFound) as refused:
            decide(request, people.approver())

        assert refused.value.code == "opening_balance_not_found"
        assert posted(organization_id, "bank:") == 10_00
        assert ApprovalRequest.objects.get().state == "open"

    def test_is_asked_for_by_the_first_statement_only(self, organization_id, account):
        bring(organization_id, actor=people.staff("finance_maker"))

        import_file(organization_id, camt053(Made(opening=210_50, statement_id="S2")))

        assert ApprovalRequest.objects.count() == 1
