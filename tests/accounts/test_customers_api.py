"""Customers through the API: made, listed, changed, frozen, and nobody else's business."""

from functools import partial

import pytest
from django.db import connection

from apps.accounts import operations, queries, registry
from apps.accounts.errors import ExternalIdTaken
from apps.accounts.models import Customer
from apps.accounts.rules import CustomerDetails
from apps.accounts.states import CustomerState
from apps.core import clock
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent, IdempotencyKey, OutboxEvent
from tests.accounts.factories import TESTS, Api, create_customer, create_organization, create_staff
from tests.support import race

SCOPES = ("customers:read", "customers:write")
BODY = {
    "name": "Zoe\u0308 Müller",
    "email": "Zoe@Example.com",
    "external_id": "user-1",
    "currencies": ["EUR"],
    "metadata": {"tier": "gold"},
}


@pytest.fixture
def api(db):
    return Api(create_organization(), *SCOPES)


class TestCreate:
    def test_answers_201_with_the_customer(self, api):
        response = api.post("/v1/customers", BODY)

        assert response.status_code == 201
        made = response.json()
        assert made["id"].startswith("cus_")
        assert made["name"] == "Zoë Müller"
        assert made["email"] == "Zoe@Example.com"
        assert made["state"] == "open"
        assert made["metadata"] == {"tier": "gold"}
        assert made["created_at"].endswith("Z")

    def test_keeps_name_and_e_mail_sealed(self, api):
        api.post("/v1/customers", BODY)

        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(c)::text FROM accounts_customer c")
            stored = cursor.fetchone()[0]
        assert "ller" not in stored
        assert "xample" not in stored

    def test_leaves_an_event_without_the_name_and_an_audit_row(self, api):
        api.post("/v1/customers", BODY)

        event = OutboxEvent.objects.get(name="accounts.customer.created")
        assert event.data["external_id"] == "user-1"
        assert "ller" not in str(event.data)
        act = AuditEvent.objects.get(act="accounts.create_customer")
        assert act.actor_kind == "api_key"
        assert act.principal == f"staff:{api.key.issued_by_id}"

    def test_the_same_key_again_answers_the_same_customer_as_it_is_now(self, api):
        first = api.post("/v1/customers", BODY, key="k")
        api.patch(f"/v1/customers/{first.json()['id']}", {"metadata": {"tier": "none"}})

        again = api.post("/v1/customers", BODY, key="k")

        assert again.status_code == 201
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json() | {"metadata": {"tier": "none"}}
        assert "Idempotent-Replayed" not in first.headers
        assert Customer.objects.count() == 1

    def test_the_same_key_for_another_request_is_422(self, api):
        api.post("/v1/customers", BODY, key="k")

        response = api.post("/v1/customers", BODY | {"name": "Somebody else"}, key="k")

        assert response.status_code == 422
        assert response.json()["code"] == "idempotency_key_reused"
        assert Customer.objects.count() == 1

    def test_a_taken_external_id_is_422_and_stays_so_for_its_key(self, api):
        api.post("/v1/customers", BODY)

        first = api.post("/v1/customers", BODY, key="second")
        again = api.post("/v1/customers", BODY, key="second")

        assert (first.status_code, first.json()["code"]) == (422, "external_id_taken")
        assert again.json()["code"] == "external_id_taken"
        assert again.headers["Idempotent-Replayed"] == "true"
        assert Customer.objects.count() == 1

    def test_two_organizations_may_use_one_external_id(self, api):
        other = Api(create_organization(), *SCOPES)

        assert api.post("/v1/customers", BODY).status_code == 201
        assert other.post("/v1/customers", BODY).status_code == 201

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"nam": "x"}, "/nam"),
            ({"name": ""}, "/name"),
            ({"name": 1}, "/name"),
            ({"name": None}, "/name"),
            ({"name": "x" * 201}, "/name"),
            ({"name": "a\u202eb"}, "/name"),
            ({"email": "nobody"}, "/email"),
            ({"currencies": "EUR"}, "/currencies"),
            ({"currencies": ["EUR", "eur"]}, "/currencies/1"),
            ({"currencies": ["XYZ"]}, "/currencies/0"),
            ({"metadata": []}, "/metadata"),
            ({"metadata": {"a": 1}}, "/metadata/a"),
            ({"metadata": {"a/b": None}}, "/metadata/a~1b"),
            ({"metadata": {f"k{n}": "" for n in range(51)}}, "/metadata"),
        ],
    )
    def test_a_wrong_shape_is_400_with_its_pointer(self, api, change, pointer):
        response = api.post("/v1/customers", BODY | change, key="k")

        assert response.status_code == 400
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
        assert not Customer.objects.exists()
        assert not IdempotencyKey.objects.exists()

    def test_a_card_number_is_refused_wherever_it_stands(self, api):
        response = api.post("/v1/customers", BODY | {"metadata": {"n": "4111 1111 1111 1111"}})

        assert response.status_code == 400
        assert response.json()["code"] == "pan_not_allowed"
        assert "1111" not in response.content.decode()

    def test_opens_what_apps_above_registered_in_the_same_transaction(self, api, monkeypatch):
        opened = []

        def fails(**given):
            opened.append(given)
            raise ExternalIdTaken("No.")

        monkeypatch.setitem(registry._openers, "test", fails)

        response = api.post("/v1/customers", BODY)

        assert response.status_code == 422
        assert opened[0]["currencies"] == ["EUR"]
        assert not Customer.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestCreateRaces:
    def test_many_requests_with_one_key_make_one_customer(self):
        organization = create_organization()
        create = partial(
            operations.create_customer,
            organization_id=organization.id,
            details=CustomerDetails(name="A", external_id="x"),
            idempotency_key="k",
            actor=TESTS,
            now=clock.now(),
        )

        made = race(*[create] * 10)

        assert len({customer.id for customer in made}) == 1
        assert Customer.objects.count() == 1

    def test_two_keys_for_one_external_id_make_one_customer(self):
        organization = create_organization()

        outcomes = race(
            *(
                partial(
                    operations.create_customer,
                    organization_id=organization.id,
                    details=CustomerDetails(name="A", external_id="x"),
                    idempotency_key=key,
                    actor=TESTS,
                    now=clock.now(),
                )
                for key in "ab"
            )
        )

        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "Customer",
            "ExternalIdTaken",
        ]
        assert Customer.objects.count() == 1


class TestRead:
    def test_a_customer_is_read_with_an_etag(self, api):
        customer = create_customer(api.organization)
        path = f"/v1/customers/{encode_id('cus', customer.id)}"

        first = api.get(path)
        again = api.get(path, **{"If-None-Match": first.headers["ETag"]})
        api.patch(path, {"metadata": {"a": "b"}})
        changed = api.get(path, **{"If-None-Match": first.headers["ETag"]})

        assert first.status_code == 200
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert changed.status_code == 200

    def test_are_found_by_what_they_are_called_however_its_characters_are_written(self, api):
        made = api.post("/v1/customers", BODY | {"external_id": "bra\u030a-1"}).json()

        assert made["external_id"] == "br\u00e5-1"
        for written in ("bra%CC%8A-1", "br%C3%A5-1"):
            [found] = api.get(f"/v1/customers?external_id={written}").json()["data"]
            assert found["id"] == made["id"]
        refused = api.get(f"/v1/customers?external_id=x{'%CC%A3' * 5}")
        assert (refused.status_code, refused.json()["parameter"]) == (400, "external_id")

    def test_another_organizations_customer_is_nowhere(self, api):
        theirs = create_customer(create_organization(), external_id="theirs")
        path = f"/v1/customers/{encode_id('cus', theirs.id)}"

        assert api.get(path).status_code == 404
        assert api.patch(path, {"metadata": {}}).status_code == 404
        assert api.post(f"{path}/freeze", {"reason": "x"}).status_code == 404
        assert api.get("/v1/customers").json()["data"] == []
        assert api.get("/v1/customers?external_id=theirs").json()["data"] == []
        theirs.refresh_from_db()
        assert theirs.state == CustomerState.OPEN

    def test_test_data_is_another_organizations_too(self, api):
        twin = queries.get_test_twin(organization_id=api.organization.id)
        tests = Api(twin, *SCOPES)
        customer = create_customer(api.organization)

        assert tests.token.startswith("kassa_test_")
        assert api.token.startswith("kassa_live_")
        assert tests.get(f"/v1/customers/{encode_id('cus', customer.id)}").status_code == 404

    @pytest.mark.parametrize(
        ("id_", "status", "code"),
        [
            (encode_id("cus", new_id()), 404, "customer_not_found"),
            (encode_id("po", new_id()), 404, "not_found"),
            ("cus_1", 400, "malformed_id"),
            ("cus_" + "z" * 26, 400, "malformed_id"),
        ],
        ids=["nobody", "another kind", "short", "too large"],
    )
    def test_an_id_that_names_nothing(self, api, id_, status, code):
        response = api.get(f"/v1/customers/{id_}")

        assert (response.status_code, response.json()["code"]) == (status, code)

    def test_a_query_name_it_does_not_know_is_400(self, api):
        customer = create_customer(api.organization)

        for name in ("expand[]", "fields", "ordering", "filter[password]"):
            assert api.get(f"/v1/customers?{name}=x").status_code == 400
            path = f"/v1/customers/{encode_id('cus', customer.id)}?{name}=x"
            assert api.get(path).status_code == 400


class TestFreeze:
    def test_freezes_at_once_and_says_so(self, api):
        customer = create_customer(api.organization)
        path = f"/v1/customers/{encode_id('cus', customer.id)}/freeze"

        first = api.post(path, {"reason": "phone stolen"}, key="k")
        again = api.post(path, {"reason": "phone stolen"}, key="k")
        another = api.post(path, {"reason": "still"})
        reused = api.post(path, {"reason": "still"}, key="k")

        assert first.status_code == 200
        assert (reused.status_code, reused.json()["resource"]) == (422, first.json()["id"])
        assert first.json()["state"] == "frozen"
        assert again.json() == another.json() == first.json()
        assert OutboxEvent.objects.filter(name="accounts.customer.frozen").count() == 1
        assert AuditEvent.objects.get(act="accounts.freeze_customer").reason == "phone stolen"

    def test_a_closed_customer_is_409(self, api):
        customer = create_customer(api.organization)
        Customer.objects.filter(id=customer.id).update(state=CustomerState.CLOSED)

        path = f"/v1/customers/{encode_id('cus', customer.id)}/freeze"
        response = api.post(path, {"reason": "x"})

        assert (response.status_code, response.json()["code"]) == (409, "customer_not_open")

    def test_staff_need_the_capability_and_the_organization(self, db):
        organization = create_organization()
        customer = create_customer(organization)
        freeze = partial(
            operations.freeze_customer,
            organization_id=organization.id,
            customer_id=customer.id,
            reason="x",
            now=clock.now(),
        )
        for person in (
            create_staff("auditor"),
            create_staff("support", sees_all=False),
            create_staff(),
        ):
            with pytest.raises(Exception, match=r"roles allows|no such organization"):
                freeze(idempotency_key="k", actor=TESTS.staff(person.id))

        inside = create_staff("support", organizations=[organization], sees_all=False)
        assert freeze(idempotency_key="k", actor=TESTS.staff(inside.id)).state == "frozen"
