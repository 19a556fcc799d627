"""Who gets in with a key, and who learns nothing."""

import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts import operations, queries, rules
from apps.accounts.api import authentication
from apps.accounts.api.authentication import CACHE_SECONDS_MAX, forget_cached_keys
from apps.accounts.models import ApiKey
from apps.core import clock
from apps.core.api.problems import ApiProblem
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

    def test_costs_one_query_and_none_while_fresh(self, api):
        api.get("/v1/me")
        forget_cached_keys()
        request = Client().get("/v1/livez").wsgi_request

        with CaptureQueriesContext(
            connection,
        ) as first:
            authentication.authenticate_token(api.token, request)
        with CaptureQueriesContext(connection) as second:
            authentication.authenticate_token(api.token, request)

        assert len(first) == 1
        assert len(second) == 0

    def test_is_read_anew_by_one_request_while_the_others_go_on(self, api, monkeypatch):
        api.get("/v1/me")
        request = Client().get("/v1/livez").wsgi_request
        begun, reads = authentication._cache[api.key.key_id].read_at, []
        find = queries.find_stored_keys

        def reading(*, key_ids):
            reads.extend(key_ids)
            # What others ask for meanwhile, they are told without a read of their own.
            authentication.authenticate_token(api.token, request)
            return find(key_ids=key_ids)

        monkeypatch.setattr(queries, "find_stored_keys", reading)
        for age, read in ((0, 0), (2.9, 0), (3.1, 1), (3.2, 1)):
            monkeypatch.setattr(authentication.time, "monotonic", lambda age=age: begun + age)
            authentication.authenticate_token(api.token, request)
            assert len(reads) == read

    def test_many_that_came_together_cost_one_query(self, api):
        other, expired = Api(create_organization(), "a:read"), Api(api.organization, "a:read")
        ApiKey.objects.update(last_used_at=clock.now())
        ApiKey.objects.filter(id=expired.key.id).update(revoked_at=clock.now())
        missing = f"{other.token[:-6]}000000"
        forget_cached_keys()
        request = Client().get("/v1/livez").wsgi_request
        tokens = [api.token, other.token, expired.token, missing, "", "kassa_", "Basic x"]

        with CaptureQueriesContext(connection) as together:
            authentication.prepare_tokens(tokens)
        with CaptureQueriesContext(connection) as then:
            callers = [
                authentication.authenticate_token(one.token, request) for one in (api, other)
            ]
            for token in (expired.token, missing, ""):
                with pytest.raises(ApiProblem) as refused:
                    authentication.authenticate_token(token, request)
                assert refused.value.code == "invalid_api_key"

        assert len(together) == 1
        assert len(then) == 0
        assert [caller.api_key_id for caller in callers] == [api.key.id, other.key.id]

    def test_what_was_not_there_for_many_is_not_looked_for_again_for_each(self, monkeypatch):
        request = Client().get("/v1/livez").wsgi_request
        time = SimpleNamespace(now=authentication.time.monotonic())
        monkeypatch.setattr(authentication.time, "monotonic", lambda: time.now)
        unknown = [
            rules.print_token(
                rules.make_token(mode="live", key_id_entropy=entropy, secret_entropy=b"x" * 32)
            )
            for entropy in (b"unknown1", b"unknown2")
        ]

        def queries_of(token):
            with (
                CaptureQueriesContext(connection) as asked,
                pytest.raises(ApiProblem) as refused,
            ):
                authentication.authenticate_token(token, request)
            assert refused.value.code == "invalid_api_key"
            return len(asked)

        authentication.prepare_tokens(unknown)
        assert [queries_of(token) for token in unknown] == [0, 0]
        time.now += 0.6
        assert queries_of(unknown[0]) == 1
        authentication.prepare_tokens(unknown[1:])
        assert list(authentication._missed) == [rules.parse_token(unknown[1]).key_id]

    def test_whose_use_cannot_be_noted_is_let_in(self, api, monkeypatch):
        request = Client().get("/v1/livez").wsgi_request
        forget_cached_keys()

        def away(**_):
            raise InterfaceError("The connection is closed.")

        monkeypatch.setattr(operations, "note_key_use", away)

        assert authentication.authenticate_token(api.token, request).api_key_id == api.key.id

    def test_whose_use_was_long_in_vain_noted_keeps_no_other_key_waiting(self, api, monkeypatch):
        """As when no connection comes free: many are admitted one after the other."""
        request = Client().get("/v1/livez").wsgi_request
        others = [Api(create_organization(), "a:read") for _ in range(2)]
        time, tried = SimpleNamespace(now=authentication.time.monotonic()), []
        monkeypatch.setattr(authentication.time, "monotonic", lambda: time.now)
        monkeypatch.setattr(authentication, "_notes_rest_until", 0.0)
        forget_cached_keys()
        note = operations.note_key_use

        def away(*, api_key_id, **_):
            tried.append(api_key_id)
            time.now += 3
            raise OperationalError("No connection came free.")

        monkeypatch.setattr(operations, "note_key_use", away)
        for one in (api, *others):
            authentication.authenticate_token(one.token, request)
        assert tried == [api.key.id]

        monkeypatch.setattr(operations, "note_key_use", note)
        time.now += 10
        authentication.authenticate_token(others[0].token, request)
        assert ApiKey.objects.exclude(last_used_at=None).get() == others[0].key

    def test_what_cannot_be_read_for_many_each_reads_for_itself(self, api, monkeypatch):
        forget_cached_keys()
        request = Client().get("/v1/livez").wsgi_request
        find, faults = queries.find_stored_keys, [OperationalError("Postgres is away.")]

        def failing(*, key_ids):
            if faults:
                raise faults.pop()
            return find(key_ids=key_ids)

        monkeypatch.setattr(queries, "find_stored_keys", failing)
        authentication.prepare_tokens([api.token])

        assert authentication.authenticate_token(api.token, request).api_key_id == api.key.id
        assert faults == []

    @pytest.mark.django_db(transaction=True)
    def test_holds_no_connection_once_it_is_read(self, api):
        request = Client().get("/v1/livez").wsgi_request
        forget_cached_keys()

        authentication.authenticate_token(api.token, request)

        assert connection.connection is None

    def test_its_use_is_noted_once_a_minute(self, api):
        api.get("/v1/me")
        noted = ApiKey.objects.get(id=api.key.id).last_used_at
        operations.note_key_use(
            organization_id=api.organization.id,
            api_key_id=api.key.id,
            now=noted + timedelta(seconds=59),
        )
        assert ApiKey.objects.get(id=api.key.id).last_used_at == noted

        operations.note_key_use(
            organization_id=api.organization.id,
            api_key_id=api.key.id,
            now=noted + timedelta(seconds=61),
        )
        assert ApiKey.objects.get(id=api.key.id).last_used_at > noted

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

    @pytest.mark.django_db(transaction=True)
    def test_its_use_is_noted_another_time_while_somebody_holds_its_row(self, api):
        request = Client().get("/v1/livez").wsgi_request
        holder = connection.copy("holder")
        holder.set_autocommit(False)
        try:
            with holder.cursor() as cursor:
                cursor.execute("SELECT 1 FROM accounts_apikey FOR UPDATE")
            forget_cached_keys()
            with connection.cursor() as cursor:
                # Whoever waited would be told so.
                cursor.execute("SET lock_timeout = '1ms'")

            caller = authentication.authenticate_token(api.token, request)
        finally:
            holder.rollback()
            holder.close()

        assert caller.api_key_id == api.key.id
        assert ApiKey.objects.get(id=api.key.id).last_used_at is None
        forget_cached_keys()
        authentication.authenticate_token(api.token, request)
        assert ApiKey.objects.get(id=api.key.id).last_used_at is not None

    def test_what_was_long_in_vain_for_many_is_not_tried_again_for_each(self, api, monkeypatch):
        request = Client().get("/v1/livez").wsgi_request
        time, reads = SimpleNamespace(now=authentication.time.monotonic()), []
        monkeypatch.setattr(authentication.time, "monotonic", lambda: time.now)
        forget_cached_keys()
        find = queries.find_stored_keys

        def away(*, key_ids):
            reads.extend(key_ids)
            time.now += 3
            raise OperationalError("No connection came free.")

        monkeypatch.setattr(queries, "find_stored_keys", away)
        authentication.prepare_tokens([api.token])
        for _ in range(2):
            with pytest.raises(OperationalError, match="just now"):
                authentication.authenticate_token(api.token, request)

        assert reads == [api.key.key_id]
        monkeypatch.setattr(queries, "find_stored_keys", find)
        # Nor is it when another turn found what it asked for meanwhile.
        authentication.prepare_tokens([Api(api.organization, "a:read").token])
        with pytest.raises(OperationalError, match="just now"):
            authentication.authenticate_token(api.token, request)
        time.now += 0.6
        assert authentication.authenticate_token(api.token, request).api_key_id == api.key.id

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
