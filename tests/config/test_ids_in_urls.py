"""Every documented route that names something by its id, and what ids that are none get there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from apps.core.ids import encode_id, new_id
from tests.accounts.factories import Api, create_organization
from tests.ledger import documents

# Some reads are of one instant, in a transaction of their own.
pytestmark = pytest.mark.django_db(transaction=True)

# What a path's parameter names, and the code of a refusal where nobody has it.
KINDS = {
    "account_id": ("la", "ledger_account_not_found"),
    "bank_file_id": ("bf", "bank_file_not_found"),
    "batch_id": ("tb", "transfer_batch_not_found"),
    "break_id": ("brk", "break_not_found"),
    "customer_id": ("cus", "customer_not_found"),
    "delivery_id": ("whd", "not_found"),
    "destination_id": ("dst", "destination_not_found"),
    "endpoint_id": ("whe", "not_found"),
    "entry_id": ("je", "journal_entry_not_found"),
    "event_id": ("evt", "not_found"),
    "fx_transfer_id": ("fx", "fx_transfer_not_found"),
    "hold_id": ("ho", "hold_not_found"),
    "line_id": ("bl", "bank_line_not_found"),
    "match_id": ("mat", "match_not_found"),
    "monitor_id": ("bm", "balance_monitor_not_found"),
    "payment_id": ("pay", "payment_not_found"),
    "payout_id": ("po", "payout_not_found"),
    "reference_id": ("vref", "virtual_reference_not_found"),
    "statement_id": ("bst", "bank_statement_not_found"),
    "transfer_id": ("je", "transfer_not_found"),
}
# What a list is narrowed to by its id.
NARROWED = {
    "bank_account": ("ba", "bank_account_not_found"),
    "bank_file": ("bf", "bank_file_not_found"),
    "bank_line": ("bl", "bank_line_not_found"),
    "customer": ("cus", "customer_not_found"),
    "endpoint": ("whe", "not_found"),
    "ledger_account": ("la", "ledger_account_not_found"),
    "statement": ("bst", "bank_statement_not_found"),
}


def named() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and parameter of each operation on what its path names by an id."""
    for path, methods in documents.load()["paths"].items():
        [*found] = re.findall(r"{(\w+)}", path)
        if found and found != ["month"]:
            yield from ((method, path, found[0]) for method in methods)


def narrowed() -> Iterator[tuple[str, str]]:
    """Yield path and query name of each list that is narrowed by an id."""
    for path, methods in documents.load()["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            if parameter["name"] in NARROWED:
                yield path, parameter["name"]


def body_of(method: str, path: str) -> dict[str, Any] | None:
    """Return the body of the document's own example, if the operation has one."""
    operation = documents.load()["paths"][path][method]
    if "requestBody" not in operation:
        return None
    body: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["examples"][
        "Request"
    ]["value"]
    return body


@pytest.fixture
def api():
    scopes = {
        scope
        for methods in documents.load()["paths"].values()
        for operation in methods.values()
        for scope in operation["security"][0]["apiKey"]
    }
    return Api(create_organization(), *scopes)


def send(api: Api, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
    key = {"Idempotency-Key": str(new_id())} if method == "post" else {}
    answer = api.send(method.upper(), path, body and json.dumps(body).encode(), **key)
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(("method", "path", "parameter"), list(named()))
def test_in_a_path_are_refused_for_what_they_are(api, method, path, parameter):
    prefix, code = KINDS[parameter]
    body = body_of(method, path)

    def ask(id_: str) -> tuple[int, str]:
        return send(api, method, path.replace(f"{{{parameter}}}", id_), body)

    assert ask("nonsense") == (400, "malformed_id")
    assert ask(encode_id("zz", new_id())) == (404, "not_found")
    assert ask(encode_id(prefix, new_id())) == (404, code)


@pytest.mark.parametrize(("path", "name"), list(narrowed()))
def test_that_narrow_a_list_are_refused_and_never_read_over(api, path, name):
    prefix, code = NARROWED[name]

    def ask(id_: str) -> tuple[int, str]:
        return send(api, "get", f"{path}?{name}={id_}", None)

    assert ask(encode_id(prefix, new_id())) == (404, code)
    assert ask(encode_id("zz", new_id()))[0] == 404
    # An empty one, as a client's unset variable is, does not list everybody's.
    for malformed in ("nonsense", ""):
        assert ask(malformed) in {(400, "malformed_id"), (400, "invalid_request")}
