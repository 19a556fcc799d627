"""How often a key is read, and its use noted, and what a fault of either keeps waiting."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts import operations, queries, rules
from apps.accounts.api import authentication
from apps.accounts.api.authentication import forget_cached_keys
from apps.accounts.models import ApiKey
from apps.core import clock
from apps.core.api.problems import ApiProblem
from tests.accounts.factories import Api, create_organization

pytestmark = pytest.mark.django_db


def revoke(key):
    """Revoke a key in the database alone, as another process does."""
    ApiKey.objects.filter(id=key.id).update(revoked_at=clock.now())


@pytest.fixture
def api():
    return Api(create_organization(), "customers:read")


class TestKey:
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

    def test_one_that_was_mistyped_costs_no_query(self, api):
        forget_cached_keys()
        known = rules.parse_token(api.token)
        mistyped = api.token.replace(known.key_id, known.key_id[::-1])

        with CaptureQueriesContext(connection) as asked:
            authentication.prepare_tokens([mistyped, f"{api.token[:-6]}000000"])

        assert len(asked) == 0

    def test_those_in_use_are_taken_along_before_each_of_them_has_to_be_read(
        self, api, monkeypatch
    ):
        used, idle = Api(create_organization(), "a:read"), Api(create_organization(), "a:read")
        request, time = Client().get("/v1/livez").wsgi_request, SimpleNamespace(now=1000.0)
        monkeypatch.setattr(authentication.time, "monotonic", lambda: time.now)
        find, reads = queries.find_stored_keys, []

        def reading(*, key_ids):
            reads.append(set(key_ids))
            return find(key_ids=key_ids)

        monkeypatch.setattr(queries, "find_stored_keys", reading)
        forget_cached_keys()

        def ask(*asked, at):
            time.now = 1000 + at
            authentication.prepare_tokens([one.token for one in asked])
            for one in asked:
                authentication.authenticate_token(one.token, request)
            read, reads[:] = [*reads], []
            return read

        def ids(*apis):
            return [{one.key.key_id for one in apis}]

        assert ask(used, at=0) == ids(used)
        # This one is read, and never asked for.
        authentication.prepare_tokens([idle.token])
        assert [reads.pop()] == ids(idle)
        assert ask(used, at=1) == []
        # Nothing is read for the sake of those that are taken along.
        assert ask(used, at=2) == []
        assert ask(api, at=2.1) == ids(api, used)
        assert ask(used, api, at=3.5) == []
        revoke(used.key)
        # What was not used since is not read again, and is forgotten.
        assert ask(api, at=5.2) == ids(api, used)
        assert list(authentication._cache) == [api.key.key_id, used.key.key_id]
        with pytest.raises(ApiProblem):
            authentication.authenticate_token(used.token, request)

    def test_a_read_in_vain_leaves_those_that_were_taken_along_to_others(self, api, monkeypatch):
        other = Api(create_organization(), "a:read")
        request, time = Client().get("/v1/livez").wsgi_request, SimpleNamespace(now=1000.0)
        monkeypatch.setattr(authentication.time, "monotonic", lambda: time.now)
        forget_cached_keys()
        authentication.authenticate_token(api.token, request)
        authentication.authenticate_token(api.token, request)
        find = queries.find_stored_keys

        def away(**_):
            raise OperationalError("Postgres is away.")

        monkeypatch.setattr(queries, "find_stored_keys", away)
        time.now += 2
        authentication.prepare_tokens([other.token])
        assert authentication.authenticate_token(api.token, request).api_key_id == api.key.id

        monkeypatch.setattr(queries, "find_stored_keys", find)
        revoke(api.key)
        # It was read two seconds ago, and is read by who asks after three.
        time.now += 0.9
        assert authentication.authenticate_token(api.token, request).api_key_id == api.key.id
        time.now += 0.2
        with pytest.raises(ApiProblem):
            authentication.authenticate_token(api.token, request)

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
    def test_holds_no_connection_once_it_is_read(self, api, monkeypatch):
        request = Client().get("/v1/livez").wsgi_request
        forget_cached_keys()
        # As the web processes are set up, whose pool it goes back to.
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)

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
