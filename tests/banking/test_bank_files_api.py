import pytest
from django.test.client import encode_multipart

from apps.banking.models import BankFile, BankFileWork
from apps.banking.tasks import import_due
from apps.core.ids import encode_id
from tests.accounts.factories import Api, create_customer, create_organization
from tests.banking.factories import create_bank_account
from tests.banking.statements import Entry, Made, camt053
from tests.reconciliation.factories import match_all

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = (
    "bank_files:write",
    "bank_files:read",
    "bank_accounts:read",
    "bank_statements:read",
    "bank_lines:read",
    "virtual_references:write",
    "virtual_references:read",
    "payments:read",
    "matches:read",
    "breaks:read",
)
BOUNDARY = "kassa-test"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GOOD = camt053(Made(entries=(Entry(amount=100_00), Entry(amount=-40_00)), opening=0))


class _File:
    def __init__(self, content, name="day.xml"):
        self.content, self.name = content, name

    def read(self):
        return self.content


@pytest.fixture
def organization():
    return create_organization()


@pytest.fixture
def api(organization):
    return Api(organization, *SCOPES)


@pytest.fixture
def account(organization):
    return create_bank_account(organization.id)


def upload(api, content, *, key=None, **fields):
    body = encode_multipart(BOUNDARY, {"file": _File(content), **fields})
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    return api.post("/v1/bank_files", body, key=key, **{"Content-Type": content_type})


class TestHandingIn:
    def test_answers_at_once_and_a_worker_says_what_came_of_it(self, api, account):
        answer = upload(api, GOOD)

        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["name"]) == ("received", "day.xml")
        assert import_due() == 1
        read = api.get(f"/v1/bank_files/{answer.json()['id']}").json()
        assert (read["state"], read["kind"], read["problems"]) == ("imported", "camt.053", [])

    def test_leaves_work_in_the_trace_of_the_request(self, api, account):
        api.client.defaults["HTTP_TRACEPARENT"] = TRACE

        upload(api, GOOD)

        assert BankFileWork.objects.get().traceparent == TRACE

    def test_of_a_refused_file_names_statement_entry_and_line(self, api, account):
        answer = upload(api, GOOD.replace(b">100.00<", b">100.001<", 1))

        import_due()

        read = api.get(f"/v1/bank_files/{answer.json()['id']}").json()
        assert (read["state"], read["reason_code"]) == ("refused", "amount_precision")
        [problem] = read["problems"]
        assert (problem["statement"], problem["entry"], problem["line"]) == ("STMT-1", 1, 9)
        assert api.get("/v1/bank_lines").json()["data"] == []

    def test_of_a_wrong_balance_says_the_difference(self, api, account):
        answer = upload(api, camt053(Made(opening=0, closing=15_37)))

        import_due()

        [problem] = api.get(f"/v1/bank_files/{answer.json()['id']}").json()["problems"]
        assert (problem["code"], problem["difference"], problem["currency"]) == (
            "balance_mismatch",
            15_37,
            "EUR",
        )

    def test_with_the_same_key_or_bytes_answers_the_first_file(self, api, account):
        first = upload(api, GOOD, key="one")
        same_key = upload(api, GOOD, key="one")
        other_key = upload(api, GOOD, key="two")

        ids = {answer.json()["id"] for answer in (first, same_key, other_key)}
        assert len(ids) == 1
        assert same_key["Idempotent-Replayed"] == "true"
        assert BankFile.objects.count() == 1

    def test_other_bytes_with_the_same_key_is_refused(self, api, account):
        first = upload(api, GOOD, key="one").json()
        upload(api, GOOD, key="two")

        for key in ("one", "two"):
            answer = upload(api, GOOD + b" ", key=key)

            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
            assert answer.json()["resource"] == first["id"]
        assert BankFile.objects.count() == 1

    def test_for_an_account_refuses_statements_of_another(self, api, organization, account):
        other = create_bank_account(organization.id, identification="FI8529501800030574")

        answer = upload(api, GOOD, bank_account=encode_id("ba", other.id))

        import_due()
        read = api.get(f"/v1/bank_files/{answer.json()['id']}").json()
        assert (read["state"], read["reason_code"]) == ("refused", "other_account")

    @pytest.mark.parametrize(
        ("send", "status", "code"),
        [
            (lambda api: api.post("/v1/bank_files", {"file": "x"}), 415, "unsupported_media_type"),
            (lambda api: upload(api, GOOD, more="x"), 400, "invalid_request"),
            (lambda api: upload(api, GOOD, bank_account="ba_nothing"), 400, "malformed_id"),
            (
                lambda api: upload(api, b"x" * (51 * 1024 * 1024)),
                413,
                "body_too_large",
            ),
            (
                lambda api: api.post(
                    "/v1/bank_files",
                    b"not a form",
                    **{"Content-Type": "multipart/form-data; boundary=x"},
                ),
                400,
                "invalid_request",
            ),
        ],
    )
    def test_of_what_is_no_file_is_refused(self, api, account, send, status, code):
        answer = send(api)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert BankFile.objects.count() == 0

    def test_needs_key_and_scope(self, organization, api):
        body = encode_multipart(BOUNDARY, {"file": _File(GOOD)})
        content_type = f"multipart/form-data; boundary={BOUNDARY}"
        missing = api.send("POST", "/v1/bank_files", body, **{"Content-Type": content_type})
        reader = Api(organization, "bank_files:read")

        assert missing.json()["code"] == "idempotency_key_missing"
        assert upload(reader, GOOD).json()["code"] == "insufficient_scope"


class TestReading:
    def test_shows_statements_lines_payments_matches_and_breaks(self, api, organization, account):
        customer = create_customer(organization)
        made = api.post("/v1/virtual_references", {"customer": encode_id("cus", customer.id)})
        reference = made.json()["reference"]
        entries = (Entry(amount=125_00, reference=reference), Entry(amount=-40_00))
        file = upload(api, camt053(Made(entries=entries, opening=0))).json()
        import_due()
        match_all()

        [statement] = api.get(f"/v1/bank_statements?bank_file={file['id']}").json()["data"]
        lines = api.get(f"/v1/bank_lines?statement={statement['id']}").json()["data"]
        [payment] = api.get("/v1/payments").json()["data"]
        [match] = api.get(f"/v1/matches?bank_line={payment['bank_line']}").json()["data"]
        [found] = api.get("/v1/breaks?state=open").json()["data"]

        assert (statement["closing_balance"], statement["chain"]) == (85_00, "first")
        assert [(line["amount"], line["state"]) for line in lines] == [
            (-40_00, "in_suspense"),
            (125_00, "matched"),
        ]
        assert (payment["amount"], payment["state"]) == (125_00, "received")
        assert match["targets"] == [{"kind": "payment", "id": payment["id"]}]
        assert (found["kind"], found["amount"]) == ("bank_only", -40_00)
        for path in (
            f"/v1/bank_statements/{statement['id']}",
            f"/v1/bank_lines/{lines[0]['id']}",
            f"/v1/payments/{payment['id']}",
            f"/v1/matches/{match['id']}",
            f"/v1/breaks/{found['id']}",
            f"/v1/virtual_references/{made.json()['id']}",
        ):
            assert api.get(path).status_code == 200
            assert Api(create_organization(), *SCOPES).get(path).status_code == 404

    def test_narrows_by_state_and_refuses_what_it_does_not_know(self, api, account):
        upload(api, GOOD)
        import_due()

        assert len(api.get("/v1/bank_lines?state=new").json()["data"]) == 2
        assert api.get("/v1/bank_lines?state=matched").json()["data"] == []
        for query in ("bank_lines?state=odd", "breaks?kind=odd", "matches?odd=1", "bank_files?x=1"):
            assert api.get(f"/v1/{query}").status_code == 400
        assert [each["account_tail"] for each in api.get("/v1/bank_accounts").json()["data"]] == [
            "3000"
        ]


class TestVirtualReferences:
    def test_are_made_once_per_key(self, api, organization):
        customer = encode_id("cus", create_customer(organization).id)
        body = {"customer": customer, "currency": "EUR", "label": "rent"}

        first = api.post("/v1/virtual_references", body, key="one")
        again = api.post("/v1/virtual_references", body, key="one")
        other = api.post("/v1/virtual_references", body, key="two")

        assert first.status_code == 201
        assert first.json() == again.json()
        assert other.json()["reference"] != first.json()["reference"]
        assert len(api.get(f"/v1/virtual_references?customer={customer}").json()["data"]) == 2

    def test_of_another_tenant_s_customer_are_not_made(self, api):
        stranger = encode_id("cus", create_customer(create_organization()).id)

        answer = api.post("/v1/virtual_references", {"customer": stranger})

        assert (answer.status_code, answer.json()["code"]) == (404, "customer_not_found")
