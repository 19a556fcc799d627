"""Who gets in with a key, and who learns nothing."""

import logging

import pytest
from django.db import connection
from django.test import Client

from apps.accounts import operations, queries, rules
from apps.accounts.api import authentication
from apps.accounts.api.authentication import CACHE_SECONDS_MAX
from apps.accounts.models import ApiKey
from apps.core import clock
from tests.accounts.factories import TESTS, Api, create_organization, issue_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    return Api(create_organization(), "customers:read")


def get_me(header: str | None, path: str = "/v1/me", **more):
    headers = {} if header is None else {"Authorization": header}
    return Client().get(path, headers=headers, **more)


def assert_refused(response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["Request-Id"]
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


class TestKey:
    def test_tells_whose_it_is(self, api):
        response = api.get("/v1/me")

        assert response.status_code == 200
        me = response.json()
        assert me["organization"]["name"] == api.organization.name
        assert me["organization"]["mode"] == "live"
        assert me["api_key"]["last4"] == rules.parse_token(api.token).last4
        assert me["api_key"]["scopes"] == ["customers:read"]
        assert api.token not in response.content.decode()

    def test_is_stored_as_a_digest_only(self, api):
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(k)::text FROM accounts_apikey k")
            stored = cursor.fetchone()[0]

        assert rules.parse_token(api.token).secret not in stored

    @pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "kassa_live_x"])
    def test_missing_is_401(self, header):
        assert_refused(get_me(header), 401, "unauthenticated")

    def test_cut_mistyped_unknown_and_of_the_other_mode_are_the_same_401(self, api):
        unknown = rules.print_token(
            rules.make_token(mode="live", key_id_entropy=b"12345678", secret_entropy=b"x" * 32)
        )
        known = rules.parse_token(api.token)
        other_secret = rules.print_token(rules.Token(known.mode, known.key_id, "0" * 43))
        other_mode = rules.print_token(rules.Token("test", known.key_id, known.secret))
        seen = set()

        for token in (
            api.token[:-1],
            api.token.swapcase(),
            api.token + "0",
            f"{api.token} ",
            unknown,
            other_secret,
            other_mode,
        ):
            response = get_me(f"Bearer {token}")
            assert_refused(response, 401, "invalid_api_key")
            seen.add(response.json()["detail"])
        assert len(seen) == 1

    def test_two_keys_or_a_long_header_are_401(self, api):
        assert_refused(get_me(f"Bearer {api.token}, Bearer {api.token}"), 401, "invalid_api_key")
        assert_refused(get_me("Bearer " + "x" * 1_000_000), 401, "invalid_api_key")

    def test_the_scheme_is_read_in_any_case(self, api):
        assert get_me(f"bearer {api.token}").status_code == 200

    def test_revoked_is_401_at_once_where_it_was_not_cached(self, api):
        revoke(api.key)

        assert_refused(api.get("/v1/me"), 401, "invalid_api_key")

    def test_revoked_is_401_within_five_seconds_everywhere(self, api, monkeypatch):
        assert api.get("/v1/me").status_code == 200
        revoke(api.key)
        later = authentication.time.monotonic() + CACHE_SECONDS_MAX
        monkeypatch.setattr(authentication.time, "monotonic", lambda: later)

        assert CACHE_SECONDS_MAX < 5
        assert_refused(api.get("/v1/me"), 401, "invalid_api_key")

    def test_expired_is_401_even_while_cached(self, api, monkeypatch):
        assert api.get("/v1/me").status_code == 200
        monkeypatch.setattr(authentication.clock, "now", lambda: api.key.expires_at)

        assert_refused(api.get("/v1/me"), 401, "invalid_api_key")

    def test_a_missing_scope_is_403_and_says_which(self, api):
        response = api.post("/v1/customers", {"name": "x"})

        assert_refused(response, 403, "insufficient_scope")
        assert response.json()["required_scope"] == "customers:write"

    def test_from_an_address_not_listed_is_403(self):
        organization = create_organization()
        inside = Api(organization, addresses=["127.0.0.0/8"])
        outside = Api(organization, addresses=["192.0.2.0/24"])

        assert inside.get("/v1/me").status_code == 200
        assert_refused(outside.get("/v1/me"), 403, "address_not_allowed")
        forged = outside.get("/v1/me", **{"X-Forwarded-For": "192.0.2.7"})
        assert_refused(forged, 403, "address_not_allowed")

    def test_behind_proxies_of_ours_the_nth_hop_from_the_right_counts(self, settings):
        settings.OWN_PROXIES = 2
        api = Api(create_organization(), addresses=["192.0.2.0/24"])

        def status(hops):
            return api.get("/v1/me", **{"X-Forwarded-For": hops}).status_code

        assert status("192.0.2.7, 10.0.0.1") == 200
        assert status("203.0.113.1, 192.0.2.7, 10.0.0.1") == 200
        assert status("192.0.2.7, 203.0.113.1, 10.0.0.1") == 403
        assert status("192.0.2.7") == 403

    def test_in_the_url_is_401_and_revoked(self, api):
        response = api.get(f"/v1/me?api_key={api.token}")

        assert_refused(response, 401, "invalid_api_key")
        api.key.refresh_from_db()
        assert api.key.revoked_at is not None
        assert_refused(api.get("/v1/me"), 401, "invalid_api_key")

    def test_a_stranger_cannot_have_a_key_revoked_by_its_id(self, api):
        known = rules.parse_token(api.token)
        forged = rules.print_token(rules.Token(known.mode, known.key_id, "0" * 43))

        assert_refused(get_me(None, f"/v1/me?key={forged}"), 401, "invalid_api_key")
        api.key.refresh_from_db()
        assert api.key.revoked_at is None

    def test_is_not_used_by_who_has_not_its_secret_or_may_not_use_it(self, api):
        known = rules.parse_token(api.token)
        outside = Api(api.organization, addresses=["192.0.2.0/24"])
        revoked = Api(api.organization, "a:read")
        revoke(revoked.key)
        guessed = rules.print_token(rules.Token(known.mode, known.key_id, "0" * 43))

        assert_refused(get_me(f"Bearer {guessed}"), 401, "invalid_api_key")
        assert_refused(outside.get("/v1/me"), 403, "address_not_allowed")
        assert_refused(revoked.get("/v1/me"), 401, "invalid_api_key")
        assert not ApiKey.objects.exclude(last_used_at=None).exists()

        assert api.get("/v1/me").status_code == 200
        assert ApiKey.objects.exclude(last_used_at=None).get() == api.key

    def test_is_in_no_log(self, api, caplog):
        as_written = logging.getHandlerByName("stdout").formatter.format

        api.get("/v1/me")
        get_me(f"Bearer {api.token[:-1]}0")
        api.get(f"/v1/me?key={api.token}")

        written = "".join(as_written(record) for record in caplog.records)
        assert "api_key_leaked" in written
        assert rules.parse_token(api.token).secret not in written


def revoke(key: ApiKey) -> None:
    operations.revoke_api_key(
        organization_id=key.organization_id,
        api_key_id=key.id,
        reason="test",
        actor=TESTS,
        now=clock.now(),
    )


class TestIssue:
    def test_a_new_pepper_leaves_old_keys_alive(self, api, settings):
        settings.KASSA_PEPPERS = ["n" * 50, *settings.KASSA_PEPPERS]

        assert api.get("/v1/me").status_code == 200

    def test_speaks_for_whoever_issued_it(self, api):
        stored = queries.find_stored_keys(key_ids=[api.key.key_id])[api.key.key_id]

        assert stored.issued_by_id == api.key.issued_by_id

    def test_two_keys_are_never_alike(self):
        organization = create_organization()
        issued = [issue_key(organization) for _ in range(5)]

        assert len({one.token for one in issued}) == 5
        assert len({one.key.key_id for one in issued}) == 5
