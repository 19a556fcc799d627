"""What a page of somebody else's can do with a browser in which one of ours has signed in."""

import pytest
from django.test import Client

from apps.accounts.models import Staff
from apps.backoffice.views import sign_in
from tests.accounts.factories import PASSWORD, create_staff
from tests.backoffice.test_sign_in import somewhere

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def person() -> Staff:
    return create_staff("support")


@pytest.fixture
def browser(person) -> Client:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(person)
    browser.get("/admin/")
    browser.cookies["csrftoken"] = "a" * 32
    return browser


def send(browser, path="/admin/find/", *, content_type=FORM, body="text=po_1", **headers):
    token = {"X-CSRFToken": "a" * 32} | {name.replace("_", "-"): v for name, v in headers.items()}
    return browser.generic("POST", path, body, content_type=content_type, headers=token)


class TestAnotherSite:
    def test_sends_nothing_that_is_read(self, browser):
        assert send(browser).status_code == 200
        assert send(browser, Origin="http://testserver").status_code == 200

        assert send(browser, Origin="https://evil.example").status_code == 403
        assert send(browser, Origin="null").status_code == 403
        assert send(browser, X_CSRFToken="b" * 32).status_code == 403

    def test_has_no_way_in_but_a_form(self, browser):
        for content_type in ("text/plain", "application/json", "", "multipart/mixed"):
            answer = send(browser, content_type=content_type)
            assert answer.status_code == 415
            assert "<h1>That did not work</h1>" in answer.content.decode()
            assert answer["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
        for path in ("/admin/login/", "/admin/logout/", "/admin/nowhere/"):
            assert send(browser, path, content_type="application/json").status_code == 415
        assert browser.get("/admin/").status_code == 200

    def test_shows_no_page_of_ours_and_keeps_none(self, browser):
        for path in ("/admin/", "/admin/nowhere/", "/admin/ledger/journalentry/", "/admin/login/"):
            answer = browser.get(path)
            assert answer["X-Frame-Options"] in {"DENY", "SAMEORIGIN"}
            assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
            assert answer["Cache-Control"] == "no-store"
            assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer["Referrer-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in answer

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/", "//evil.example/", "///evil.example", "/\\evil.example",
            "\\\\evil.example", "http:///evil.example", "javascript:alert(1)", "/\t/evil.example",
            "https:evil.example", "http://testserver@evil.example/", " //evil.example",
        ],
    )  # fmt: skip
    def test_is_not_where_one_lands_after_signing_in(self, person, target):
        form = {"username": person.email, "password": PASSWORD, "next": target}

        answer = Client().post("/admin/login/", form, REMOTE_ADDR=somewhere())

        assert (answer.status_code, answer["Location"]) == (302, "/admin/")

    def test_is_sent_no_cookie_with_what_it_asks_and_reads_none(self, person):
        browser = Client()
        form = {"username": person.email, "password": PASSWORD}
        browser.get("/admin/login/")
        browser.post("/admin/login/", form, REMOTE_ADDR=somewhere())

        cookies = {name: one for name, one in browser.cookies.items() if one.value}

        assert set(cookies) == {"sessionid", "sessionid-device", "csrftoken"}
        assert {one["samesite"] for one in cookies.values()} == {"Strict"}
        assert all(cookies[name]["httponly"] for name in ("sessionid", "sessionid-device"))
        assert sign_in.browsers.find_browser(cookies["sessionid-device"].OutputString())
