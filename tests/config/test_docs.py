"""The API's documentation for people, as it is served."""

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import override

import pytest
import yaml
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core.api import problems
from apps.core.errors import refusal_classes
from config import docs

pytestmark = pytest.mark.django_db

FILE = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"
PATHS = ("/docs", "/docs/errors", "/docs/openapi.yaml")


class Anchors(HTMLParser):
    """The ids of a page, and where its links within Kassa lead."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.links = [], []
        self.feed(page)

    @override
    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if "id" in told:
            self.ids.append(told["id"])
        if tag == "a":
            self.links.append(told["href"])


def get(path, **headers):
    return Client(headers=headers).get(path)


def anchors(path):
    return Anchors(get(path).content.decode())


@pytest.mark.parametrize("path", PATHS)
class TestPages:
    def test_are_for_everybody_and_ask_no_database(self, path):
        with CaptureQueriesContext(connection) as asked:
            response = get(path)

        assert response.status_code == 200
        assert len(asked) == 0
        assert response["Content-Security-Policy"].startswith("default-src 'none'")
        assert response["Cache-Control"] == "public, max-age=300"
        assert response.cookies == {}

    def test_are_not_sent_again_to_who_has_them(self, path):
        tag = get(path)["ETag"]

        again = get(path, if_none_match=tag)

        assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag)

    def test_are_packed_for_who_takes_them_so(self, path):
        plain, packed = get(path), get(path, accept_encoding="br, gzip")

        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.content) == plain.content
        assert packed["ETag"] != plain["ETag"]
        assert {one["Vary"] for one in (plain, packed)} == {"Accept-Encoding"}

    def test_are_only_read(self, path):
        response = Client(enforce_csrf_checks=True).post(path)

        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


class TestApi:
    def test_has_every_operation_and_every_event_once(self):
        read = yaml.safe_load(FILE.read_bytes())
        operations = [one for methods in read["paths"].values() for one in methods.values()]
        sent = [event["post"] for event in read["webhooks"].values()]

        found = anchors("/docs")

        named = {one["operationId"] for one in [*operations, *sent]}
        assert len(named) == len(operations) + len(sent)
        assert named <= set(found.ids)
        assert len(found.ids) == len(set(found.ids))

    def test_leads_nowhere_that_is_not_there(self):
        found = anchors("/docs")

        inner = [link[1:] for link in found.links if link.startswith("#")]
        assert set(inner) <= set(found.ids)
        outer = {link for link in found.links if not link.startswith("#")}
        assert outer == {"/docs/errors", "/docs/openapi.yaml"}
        assert [get(link).status_code for link in outer] == [200, 200]

    def test_says_what_a_body_holds_to_its_depth(self):
        page = get("/docs").content.decode()
        shown = re.search(r'<article id="post_transfers">.*?</article>', page, re.DOTALL).group()

        assert "balances[].version" in shown
        assert "transfers:write" in shown
        # What the document writes in backticks.
        assert "the refusal names as <code>requested</code> what today" in shown
        assert "Idempotency-Key (header)" in shown

    def test_says_what_is_in_a_field_that_may_be_null(self):
        page = get("/docs").content.decode()
        shown = re.search(r'<article id="post_destinations">.*?</article>', page, re.DOTALL).group()

        assert "<code>address.town</code>" in shown
        assert "object or null" in shown

    def test_writes_words_as_words(self):
        assert docs._words("a <b> of `x<y`") == "a &lt;b&gt; of <code>x&lt;y</code>"


class TestErrors:
    def test_has_every_code_with_what_it_means(self):
        codes = docs.list_codes()

        assert {one.code for one in codes} == {*problems.STATUS_OF_CODE, *refusal_classes()}
        assert [one.code for one in codes if not one.meaning] == []
        assert docs.MEANINGS.keys() == problems.STATUS_OF_CODE.keys()
        # What developers are told of the base classes is not for clients.
        told = " ".join(one.meaning for one in codes)
        assert "Never stored" not in told
        # Only where it may be so: whoever reads it asks again, under the same key.
        running = [one.code for one in codes if "is still running" in one.meaning]
        assert running == ["request_in_progress"]
        assert "details" not in told

    def test_marks_what_no_client_meets(self):
        marked = {one.code for one in docs.list_codes() if one.is_staffs}
        classes = refusal_classes()
        told = FILE.read_text()
        # What a code is called, and its class, where the API itself would name it.
        names = [*marked, *(classes[code].__name__ for code in marked)]
        apis = [path.read_text() for path in Path(settings.BASE_DIR).glob("apps/*/api/**/*.py")]

        assert marked == docs.BACK_OFFICE
        assert marked <= classes.keys() - problems.STATUS_OF_CODE.keys()
        assert [name for name in names if re.search(rf"\b{name}\b", told)] == []
        assert [n for n in names for text in apis if re.search(rf"\b{n}\b", text)] == []

    def test_says_so_of_each_and_of_no_other(self):
        page = get("/docs/errors").content.decode()
        rows = re.findall(r'<tr id="(\w+)">(.*?)</tr>', page, re.DOTALL)

        assert {code for code, row in rows if "Back office only." in row} == docs.BACK_OFFICE
        assert "own_role" in docs.BACK_OFFICE
        assert "insufficient_funds" not in docs.BACK_OFFICE

    def test_is_where_the_type_of_a_problem_leads(self):
        path, _, code = get("/v1/nowhere").json()["type"].partition("#")

        assert code == "route_not_found"
        assert code in anchors(path).ids
        assert {one.code for one in docs.list_codes()} == set(anchors(path).ids)


def test_the_document_is_the_file():
    assert get("/docs/openapi.yaml").content == FILE.read_bytes()
