"""Who sees and does what: every role on every address, by GET and by a direct POST."""

import itertools

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver

from apps.accounts import roles
from tests.backoffice.house import PEOPLE
from tests.backoffice.screens import WRITES, pages

LOGINS = sorted(PEOPLE)
# What the site answers beside its screens; an address that is in neither fails the test.
OWN_PAGES = {"index", "login", "logout", "find", "trial_balance", "stuck_work", "stuck_row"}
OF_A_SCREEN = ("_changelist", "_change", "_act", "_list_act")


def expected(page, login):
    held = PEOPLE[login][1]
    return all(roles.is_allowed(one, roles=held, is_verified=True) for one in page.capabilities)


class TestEveryRoleOnEveryAddress:
    @pytest.mark.parametrize("login", LOGINS)
    def test_sees_exactly_what_the_table_gives(self, look, login):
        wrong = {
            page.name: status
            for page in pages()
            if (status := look(login, page.url)) != (200 if expected(page, login) else 403)
        }

        assert wrong == {}

    @pytest.mark.parametrize("login", LOGINS)
    def test_cannot_post_an_act_past_its_form(self, look, login):
        wrong = {
            page.name: status
            for page in pages()
            if page.act is not None
            and (status := look(login, page.url, {})) != (400 if expected(page, login) else 403)
        }

        assert wrong == {}

    def test_changes_nothing_by_posting_to_what_only_shows(self, look):
        body = {"_save": "1", "state": "settled", "action": "delete_selected"}
        for page in pages():
            if page.act is None:
                with CaptureQueriesContext(connection) as queries:
                    look("noor", page.url, body)
                assert not [one for one in queries if WRITES.search(one["sql"])], page.name

    def test_sends_strangers_to_the_sign_in(self, client, house, db):
        wrong = {
            page.name
            for page in pages()
            if not client.get(page.url).headers.get("Location", "").startswith("/admin/login/")
        }

        assert wrong == set()

    def test_names_what_is_missing_and_who_has_it(self, browse):
        answer = browse("sofia").get("/admin/trial-balance/")

        text = answer.content.decode()
        assert answer.status_code == 403
        assert "ledger.view_ledger" in text
        assert "finance approver" in text
        assert "Sofia Rey, support" in text


class TestTheAddressesThemselves:
    def test_are_all_known_to_this_test(self):
        resolver = get_resolver().namespace_dict["admin"][1]
        names = {name for name in resolver.reverse_dict if isinstance(name, str)}

        strange = {
            name for name in names if name not in OWN_PAGES and not name.endswith(OF_A_SCREEN)
        }

        assert strange == set()

    def test_have_no_form_that_adds_changes_or_deletes(self, browse, house):
        client = browse("noor")

        for screen in admin.site._registry.values():
            base = f"/admin/{screen.opts.app_label}/{screen.opts.model_name}"
            assert client.get(f"{base}/add/").status_code in {404, 403}
            row = screen.model.objects.last()
            if row is not None:
                url = screen.url_of(row)
                assert client.get(f"{url}delete/").status_code == 404

    def test_give_an_unknown_row_or_act_a_plain_no(self, browse):
        client = browse("noor")

        for path in (
            "/admin/payouts/payout/po_01jf0000000000000000000000/",
            "/admin/payouts/payout/nonsense/",
            "/admin/payouts/payout/nonsense/act/cancel/",
            "/admin/payouts/payout/act/nothing/",
            "/admin/nothing/",
        ):
            answer = client.get(path)
            assert answer.status_code == 404, path
            assert b"not yours to see" in answer.content or path == "/admin/nothing/"


class TestScope:
    def test_hides_the_rows_of_other_organizations(self, house, db, client):
        from tests.accounts import factories  # noqa: PLC0415  (makes people of other houses)

        elsewhere = factories.create_organization()
        person = factories.create_staff(
            "finance_approver", organizations=[elsewhere], sees_all=False
        )
        client.force_login(person)
        payout = house.payouts["waiting"]

        listed = client.get("/admin/payouts/payout/").content.decode()
        found = client.post("/admin/find/", {"text": str(payout.id)})

        assert "Nobody has asked for a payout" in listed
        assert client.get(f"/admin/payouts/payout/{payout.id}/").status_code == 404
        assert b"No row that you may see" in found.content
        assert house.organization.name not in client.get("/admin/").content.decode()


def test_two_roles_give_exactly_their_sum():
    for one, other in itertools.combinations(roles.Role, 2):
        both = roles.capabilities_of({one, other})

        assert both == roles.capabilities_of({one}) | roles.capabilities_of({other})
