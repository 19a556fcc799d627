from functools import partial

import pytest

from apps.core.ids import encode_id
from apps.payouts.models import Payout
from tests.accounts.factories import Api
from tests.payouts import factories
from tests.payouts.factories import IBANS
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api(home):
    return Api(home.organization, "payouts:read", "payouts:write")


@pytest.fixture
def target(home, customer):
    # The API's clock is the real one: what it pays to must be usable by now.
    return factories.destination(home, customer, now=factories.today())


@pytest.fixture
def destination_body(customer):
    return {
        "customer": encode_id("cus", customer.id),
        "iban": IBANS[0],
        "holder_name": "Ada Lovelace",
        "currency": "EUR",
    }


@pytest.fixture
def body(customer, target):
    return {
        "customer": encode_id("cus", customer.id),
        "destination": encode_id("dst", target.id),
        "amount": 100_00,
        "currency": "EUR",
        "remittance": "Invoice 12",
        "metadata": {"order": "7"},
    }


class TestDestinations:
    def test_are_made_read_and_listed_masked(self, api, destination_body):
        made = api.post("/v1/destinations", destination_body)

        assert made.status_code == 201
        answer = made.json()
        assert (answer["state"], answer["iban"], answer["iban_tail"]) == (
            "verified",
            "DE…6199",
            "6199",
        )
        assert IBANS[0] not in made.content.decode()
        assert api.get(f"/v1/destinations/{answer['id']}").json() == answer
        listed = api.get(f"/v1/destinations?customer={answer['customer']}").json()
        assert listed["data"] == [answer]

    @pytest.mark.parametrize(
        ("change", "status", "code", "pointer"),
        [
            ({"iban": "DE00"}, 400, "invalid_iban", "/iban"),
            # Its country's own check digit is wrong, and no card is what it was meant to be.
            ({"iban": "FI4080232341216913"}, 400, "invalid_iban", "/iban"),
            ({"iban": "4111 1111 1111 1111"}, 400, "invalid_iban", "/iban"),
            ({"iban": "FI40\u200b80232341216913"}, 400, "invalid_request", "/iban"),
            ({"holder_name": "Ada 4111 1111 1111 1111"}, 400, "pan_not_allowed", "/holder_name"),
            ({"bic": "DEUTDEFF"}, 400, "bic_mismatch", "/bic"),
            ({"address": {"lines": ["x"]}}, 400, "unstructured_address", "/address"),
            ({"currency": "SEK"}, 422, "unsupported_currency", None),
            ({"surprise": 1}, 400, "invalid_request", "/surprise"),
        ],
    )
    def test_faults_name_their_field(self, api, destination_body, change, status, code, pointer):
        refused = api.post("/v1/destinations", {**destination_body, **change})

        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (status, code)
        pointers = [one["pointer"] for one in problem.get("errors", [])]
        assert pointers == ([pointer] if pointer else [])

    @pytest.mark.parametrize(
        "iban",
        [
            "FI6779494252516589",
            "FI67 7949 4252 5165 89",
            "DE60 5206 1591 8045 1119 38",
            "DK2299624192168592",
            "CH6225290092003016782",
            "NO6718876131419",
        ],
    )
    def test_are_made_of_an_iban_whose_digits_could_be_a_cards(self, api, destination_body, iban):
        made = api.post("/v1/destinations", {**destination_body, "iban": iban})

        assert made.status_code == 201, made.json()
        assert made.json()["iban_tail"] == iban.replace(" ", "")[-4:]

    def test_are_disabled(self, api, destination_body):
        made = api.post("/v1/destinations", destination_body).json()

        disabled = api.post(f"/v1/destinations/{made['id']}/disable", {"reason": "lost"})

        assert disabled.json()["state"] == "disabled"

    def test_are_named_to_who_reuses_the_key_they_were_disabled_under(self, api, destination_body):
        made = api.post("/v1/destinations", destination_body).json()
        api.post(f"/v1/destinations/{made['id']}/disable", {"reason": "lost"}, key="k")

        other = api.post(f"/v1/destinations/{made['id']}/disable", {"reason": "found"}, key="k")

        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["resource"] == made["id"]


class TestPayouts:
    def test_are_asked_for_and_read(self, api, body):
        made = api.post("/v1/payouts", body)

        answer = made.json()
        assert made.status_code == 201
        assert {name: answer[name] for name in ("state", "amount", "fee", "currency")} == {
            "state": "scheduled",
            "amount": 100_00,
            "fee": 0,
            "currency": "EUR",
        }
        assert list(answer["times"]) == ["requested", "approved", "scheduled"]
        assert answer["destination"]["iban_tail"] == "6199"
        assert answer["metadata"] == {"order": "7"}
        assert api.get(f"/v1/payouts/{answer['id']}").json() == answer
        assert api.get("/v1/payouts?state=scheduled").json()["data"] == [answer]
        assert api.get("/v1/payouts?state=settled").json()["data"] == []

    def test_may_name_an_iban_in_their_texts(self, api, body):
        texts = {"remittance": "For FI40 8023 2341 2169 13", "metadata": {"to": "NO4850008063608"}}

        made = api.post("/v1/payouts", {**body, **texts})

        assert made.status_code == 201, made.json()
        assert {name: made.json()[name] for name in texts} == texts

    def test_show_how_many_people_are_missing(self, api, body):
        made = api.post("/v1/payouts", {**body, "amount": 2_000_00}).json()

        assert (made["state"], made["approvals"]) == ("pending_approval", {"needed": 1, "given": 0})

    def test_a_replay_answers_the_same_and_says_so(self, api, body):
        first = api.post("/v1/payouts", body, key="k")

        again = api.post("/v1/payouts", body, key="k")

        assert again.json() == first.json()
        assert again["Idempotent-Replayed"] == "true"

    def test_five_in_parallel_are_one_payout(self, api, body):
        answers = race(*(partial(api.post, "/v1/payouts", body, key="k") for _ in range(5)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert Payout.objects.count() == 1

    def test_another_amount_under_the_key_is_refused_with_the_first(self, api, body):
        first = api.post("/v1/payouts", body, key="k").json()

        refused = api.post("/v1/payouts", {**body, "amount": 1}, key="k")

        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        assert refused.json()["resource"] == first["id"]

    @pytest.mark.parametrize("amount", [-1, 0, 0.1, 10**15, "1e3", "100", True, None])
    def test_what_is_no_amount_is_refused_and_the_key_stays_free(self, api, body, amount):
        refused = api.post("/v1/payouts", {**body, "amount": amount}, key="k")

        assert refused.status_code == 400
        assert [one["pointer"] for one in refused.json()["errors"]] == ["/amount"]
        assert api.post("/v1/payouts", body, key="k").status_code == 201

    def test_more_than_there_is_names_the_code(self, api, body):
        refused = api.post("/v1/payouts", {**body, "amount": 6_000_00})

        assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")

    def test_are_canceled_once(self, api, body):
        made = api.post("/v1/payouts", body).json()
        path = f"/v1/payouts/{made['id']}/cancel"

        first = api.post(path, {"reason": "changed my mind"})
        second = api.post(path, {"reason": "changed my mind"})

        assert first.json()["state"] == "canceled"
        assert (second.status_code, second.json()["code"]) == (409, "not_cancelable")

    def test_are_named_to_who_reuses_the_key_they_were_canceled_under(self, api, body):
        made = api.post("/v1/payouts", body).json()
        api.post(f"/v1/payouts/{made['id']}/cancel", {"reason": "x"}, key="k")

        other = api.post("/v1/payouts", body, key="k")

        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["resource"] == made["id"]

    def test_are_nobody_elses(self, api, body):
        made = api.post("/v1/payouts", body).json()
        stranger = Api(factories.world().organization, "payouts:read", "payouts:write")

        read = stranger.get(f"/v1/payouts/{made['id']}")
        canceled = stranger.post(f"/v1/payouts/{made['id']}/cancel", {"reason": "x"})
        asked = stranger.post("/v1/payouts", body)

        assert {read.status_code, canceled.status_code, asked.status_code} == {404}
        assert stranger.get("/v1/payouts").json()["data"] == []

    def test_a_key_without_the_scope_does_nothing(self, home, body):
        reader = Api(home.organization, "payouts:read")

        refused = reader.post("/v1/payouts", body)

        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")

    def test_a_page_costs_a_fixed_number_of_queries(self, api, body, django_assert_max_num_queries):
        for number in range(5):
            api.post("/v1/payouts", {**body, "remittance": f"{number}"})

        with django_assert_max_num_queries(8):
            assert len(api.get("/v1/payouts").json()["data"]) == 5
