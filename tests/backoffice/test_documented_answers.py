"""What a house in full use is answered over the API is what the OpenAPI document says it is."""

import re
from collections.abc import Iterator

import pytest

from tests.accounts.factories import issue_key
from tests.ledger import documents
from tests.ledger.documents import JudgedClient

pytestmark = pytest.mark.django_db


def reads(*, of_one: bool) -> Iterator[str]:
    """Yield the paths of one resource each, or of lists; the ledger has tests of its own."""
    for path, methods in documents.load()["paths"].items():
        operation = methods.get("get", {"tags": documents.LEDGER_TAGS})
        if not documents.LEDGER_TAGS.issuperset(operation["tags"]) and ("{" in path) == of_one:
            yield path


@pytest.fixture
def judged(house):
    scopes = {
        scope
        for methods in documents.load()["paths"].values()
        for operation in methods.values()
        for scope in operation["security"][0]["apiKey"]
    }
    return JudgedClient(issue_key(house.organization, *scopes).token)


def test_to_every_list_and_to_every_row_of_it(judged):
    rows = {path: judged.get(path).json().get("data", []) for path in reads(of_one=False)}
    for path in reads(of_one=True):
        listed = re.sub(r"/{\w+}.*", "", path)
        for row in rows[listed]:
            answer = judged.get(re.sub(r"{\w+}", row["id"], path))
            assert answer.status_code == 200, (path, row)

    # None agrees by having nothing; `me` is no list.
    assert {path for path, found in rows.items() if not found} == {"/v1/me"}
