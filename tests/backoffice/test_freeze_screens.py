"""A freeze on the screens: set, asked to be lifted, and decided, by those whose act it is."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Customer
from apps.approvals.models import ApprovalRequest
from apps.backoffice.operations import UNFREEZE_ACT
from apps.core.ids import encode_id
from apps.payouts.models import Payout
from tests.backoffice.test_acts import open_form, perform, url_of
from tests.support import past_the_guards

INBOX = "/admin/approvals/approvalrequest/"


@pytest.fixture
def customer(house, db):
    return house.customers[0]


@pytest.fixture
def frozen(browse, customer):
    perform(browse("sofia"), customer, "freeze")
    return again(customer)


def again(customer):
    return Customer.objects.get(pk=customer.pk)


def home(client):
    return client.get("/admin/").content.decode()


def waiting():
    return ApprovalRequest.objects.get(act=UNFREEZE_ACT, state="open")


def read(client, row):
    return client.get(url_of(row)).content.decode()


class TestLifting:
    def test_takes_two_people(self, browse, frozen):
        answer = perform(browse("liam"), frozen, "unfreeze", reason="The phone was found again.")
        assert (answer.status_code, answer.url) == (302, url_of(frozen))
        assert again(frozen).state == "frozen"

        answer = perform(browse("milo"), waiting(), "approve")

        assert answer.status_code == 302
        assert again(frozen).state == "open"
        # Why, by whom, and that another one agreed.
        text = read(browse("cora"), frozen)
        assert "The phone was found again." in text
        assert "Liam Okafor" in text
        assert "Milo Brandt" in text

    def test_denied_leaves_it_frozen(self, browse, frozen):
        perform(browse("iris"), frozen, "unfreeze")

        answer = perform(browse("cora"), waiting(), "deny")

        assert answer.status_code == 302
        assert again(frozen).state == "frozen"

    def test_is_not_decided_by_who_asked(self, browse, frozen):
        perform(browse("milo"), frozen, "unfreeze")

        answer = perform(browse("milo"), waiting(), "approve")

        assert answer.status_code == 403
        assert b"cannot_approve_own" in answer.content
        assert again(frozen).state == "frozen"

    @pytest.mark.parametrize("login", ["liam", "iris"])
    def test_is_not_decided_by_who_may_only_ask(self, browse, frozen, login):
        perform(browse("milo"), frozen, "unfreeze")

        answer = perform(browse(login), waiting(), "approve")

        assert answer.status_code == 403
        assert again(frozen).state == "frozen"

    @pytest.mark.parametrize("login", ["sofia", "rosa", "mara", "anton", "ada"])
    def test_is_not_asked_for_by_others(self, browse, frozen, login):
        answer = browse(login).get(url_of(frozen, "unfreeze"))

        assert answer.status_code == 403
        assert b"accounts.unfreeze_customer" in answer.content

    def test_with_the_same_form_again_is_the_first_outcome(self, browse, frozen):
        client, url = browse("liam"), url_of(frozen, "unfreeze")
        sent = {**open_form(client, url), "reason": "The phone was found again."}

        answers = [client.post(url, sent).status_code for _ in range(2)]

        assert answers == [302, 302]
        assert ApprovalRequest.objects.filter(act=UNFREEZE_ACT).count() == 1

    def test_is_refused_where_nothing_is_frozen(self, browse, customer):
        text = read(browse("liam"), customer)
        assert "It is open: there is no freeze to lift." in text

        answer = perform(browse("liam"), customer, "unfreeze")

        assert answer.status_code == 409
        assert b"customer_not_frozen" in answer.content

    def test_is_off_while_it_waits_and_leads_to_what_waits(self, browse, frozen):
        perform(browse("liam"), frozen, "unfreeze")

        text = read(browse("iris"), frozen)

        assert "It waits for a second person already." in text
        assert url_of(waiting()) in text
        answer = perform(browse("iris"), frozen, "unfreeze")
        assert answer.status_code == 409
        assert b"unfreezing_asked_for_already" in answer.content


class TestAFreezeOfCompliance:
    @pytest.fixture
    def theirs(self, browse, customer):
        perform(browse("cora"), customer, "freeze")
        return again(customer)

    @pytest.mark.parametrize("login", ["liam", "iris", "milo"])
    def test_is_not_asked_about_by_others(self, browse, theirs, login):
        assert "Compliance froze this customer: they alone lift it." in read(browse(login), theirs)

        answer = perform(browse(login), theirs, "unfreeze")

        assert answer.status_code == 403
        assert b"freeze_of_compliance" in answer.content

    def test_is_not_decided_by_others_who_are_told_whom_it_asks(self, browse, theirs):
        perform(browse("cora"), theirs, "unfreeze")

        assert "It asks for compliance." in read(browse("milo"), waiting())
        answer = perform(browse("milo"), waiting(), "approve")

        assert answer.status_code == 403
        assert b"may_not_decide" in answer.content
        assert again(theirs).state == "frozen"

    def test_is_made_of_one_that_others_set(self, browse, frozen):
        assert "It is frozen already." in read(browse("milo"), frozen)

        client = browse("cora")
        assert "It is frozen already." not in read(client, frozen)

        answer = perform(client, frozen, "freeze")

        assert answer.status_code == 302
        assert again(frozen).is_frozen_by_compliance
        text = read(client, frozen)
        assert "Nothing of theirs leaves until two people of compliance lift it." in text
        assert "It is frozen already." in text


class TestTheInbox:
    def test_tells_what_is_asked_and_whom(self, browse, frozen):
        perform(browse("liam"), frozen, "unfreeze")

        listed = browse("milo").get(INBOX).content.decode()
        text = read(browse("milo"), waiting())

        for page in (listed, text):
            assert f"Lift the freeze of customer {frozen.external_id}" in page
        assert "1 compliance or risk manager" in text
        assert url_of(frozen) in text
        assert f"{frozen.frozen_at:%Y-%m-%d %H:%M:%S.%f} UTC" in text
        assert "As it was when it was asked for." in text

    @pytest.mark.parametrize(
        ("login", "is_asked"),
        [("milo", True), ("cora", True), ("liam", False), ("iris", False), ("anton", False)],
    )
    def test_has_it_for_those_who_may_decide_it(self, browse, frozen, login, is_asked):
        perform(browse("liam"), frozen, "unfreeze")

        mine = browse(login).get(f"{INBOX}?for=me").content.decode()

        assert ("Lift the freeze of" in mine) is is_asked

    def test_is_counted_on_the_home_of_who_may_decide_it(self, browse, frozen):
        for login, waits in (("milo", 0), ("liam", 0)):
            assert f"Waiting for me</span><b>{waits}</b>" in home(browse(login))

        perform(browse("liam"), frozen, "unfreeze")

        for login, waits in (("milo", 1), ("cora", 1), ("liam", 0), ("iris", 0)):
            assert f"Waiting for me</span><b>{waits}</b>" in home(browse(login))

    def test_says_when_the_freeze_is_another_one(self, browse, frozen):
        perform(browse("liam"), frozen, "unfreeze")
        Customer.objects.filter(pk=frozen.pk).update(frozen_by="staff:another")
        was = waiting()

        assert "It changed since it was asked for" in read(browse("milo"), was)
        answer = perform(browse("milo"), was, "approve")

        assert answer.status_code == 409
        assert b"approval_stale" in answer.content
        assert waiting().pk != was.pk


class TestReleasingWhatTheFreezeHolds:
    @pytest.fixture
    def met(self, house, db):
        """A payout that a batch met while its customer was frozen."""
        payout = house.payouts["scheduled"]
        held = {"state": "held", "hold_reasons": ["payouts_paused"]}
        Payout.objects.filter(pk=payout.pk).update(**held)
        payout.refresh_from_db()
        return payout

    def test_is_off_as_long_as_the_customer_is_frozen(self, browse, met):
        perform(browse("sofia"), met.customer, "freeze")

        text = read(browse("iris"), met)
        answer = perform(browse("iris"), met, "release", hold_reason="payouts_paused")

        assert "The customer is frozen: the next batch would hold it again." in text
        assert answer.status_code == 409
        met.refresh_from_db()
        assert (met.state, met.hold_reasons) == ("held", ["payouts_paused"])

    def test_is_offered_once_the_customer_is_open(self, browse, met):
        answer = perform(browse("iris"), met, "release", hold_reason="payouts_paused")

        assert answer.status_code == 302
        met.refresh_from_db()
        assert met.hold_reasons == []


def statements(client, row):
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url_of(row)).status_code == 200
    return len(captured)


def test_the_page_of_a_frozen_customer_takes_one_statement_more(browse, customer):
    client = browse("milo")
    assert statements(client, customer) == 11

    perform(browse("sofia"), customer, "freeze")
    # What waits to lift it.
    assert statements(client, customer) == 12
    perform(browse("liam"), customer, "unfreeze")
    assert statements(client, customer) == 12


def test_a_request_of_an_act_that_this_release_does_not_know_is_listed_plainly(browse, frozen):
    """A newer release has asked for it, on another process or before it was taken back."""
    perform(browse("liam"), frozen, "unfreeze")
    request = waiting()
    past_the_guards("UPDATE approvals_request SET act = 'things.improve'")

    listed = browse("milo").get(INBOX)

    assert listed.status_code == 200
    assert encode_id("apr", request.id) in listed.content.decode()
