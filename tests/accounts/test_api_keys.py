"""Keys are issued, rotated with two alive, and revoked for good."""

from datetime import timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection

from apps.accounts import operations, rules
from apps.accounts.errors import (
    ApiKeyHasSuccessor,
    ApiKeyNotFound,
    ApiKeyNotLive,
    CapabilityMissing,
    MalformedApiKey,
    OrganizationNotFound,
)
from apps.accounts.models import ApiKey
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.models import AuditEvent
from tests.accounts.factories import TESTS, create_organization, create_staff, issue_key
from tests.support import race

pytestmark = pytest.mark.django_db


class TestCreateApiKey:
    def test_lives_for_a_year_unless_told_otherwise(self):
        key = issue_key(create_organization()).key

        assert key.expires_at == key.created_at + timedelta(days=365)

    def test_leaves_an_audit_row_without_the_secret(self):
        issued = issue_key(create_organization())

        row = AuditEvent.objects.get(act="accounts.create_api_key")
        assert row.after["last4"] == issued.key.last4
        assert rules.parse_token(issued.token).secret not in str(row.after)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"scopes": ["payouts"]},
            {"scopes": []},
            {"addresses": ["example.com"]},
            {"expires_at": clock.now() + timedelta(days=366)},
            {"expires_at": clock.now() - timedelta(seconds=1)},
        ],
        ids=["no such scope", "no scope", "no network", "too long a life", "no life"],
    )
    def test_refuses_what_makes_no_sense(self, wrong):
        organization = create_organization()
        given = {"scopes": ["a:read"], **wrong}

        with pytest.raises(MalformedApiKey):
            operations.create_api_key(
                organization_id=organization.id,
                name="x",
                issued_by=create_staff().id,
                actor=TESTS,
                now=clock.now(),
                **given,
            )

        assert not ApiKey.objects.exists()

    def test_is_for_an_organization_that_exists(self):
        with pytest.raises(OrganizationNotFound):
            operations.create_api_key(
                organization_id=new_id(),
                name="x",
                scopes=["a:read"],
                issued_by=create_staff().id,
                actor=TESTS,
                now=clock.now(),
            )

    def test_staff_without_the_role_may_not(self):
        organization, person = create_organization(), create_staff("auditor")

        with pytest.raises(CapabilityMissing):
            operations.create_api_key(
                organization_id=organization.id,
                name="x",
                scopes=["a:read"],
                issued_by=person.id,
                actor=Actor.staff(person.id),
                now=clock.now(),
            )

    @pytest.mark.parametrize(
        ("sql", "constraint"),
        [
            ("expires_at = created_at + interval '366 days'", "a key neither comes back"),
            ("secret_digest = ''", "never change"),
            ("scopes = '{everything:write}'", "never change"),
            ("organization_id = gen_random_uuid()", "never change"),
        ],
    )
    def test_the_database_keeps_it_as_it_was_issued(self, sql, constraint):
        issue_key(create_organization())

        with pytest.raises(IntegrityError, match=constraint), connection.cursor() as cursor:
            cursor.execute(f"UPDATE accounts_apikey SET {sql}")


class TestRotateApiKey:
    def rotate(self, key, **more):
        return operations.rotate_api_key(
            organization_id=key.organization_id,
            api_key_id=key.id,
            actor=TESTS,
            now=more.get("now") or clock.now(),
        )

    def test_makes_a_successor_and_gives_the_old_one_seven_days(self):
        old = issue_key(create_organization(), "a:read").key
        now = clock.now()

        new = self.rotate(old, now=now).key

        old.refresh_from_db()
        assert old.expires_at == now + timedelta(days=7)
        assert new.expires_at == now + timedelta(days=365)
        assert (new.scopes, new.rotated_from) == (["a:read"], old.id)

    def test_is_refused_while_the_successor_lives(self):
        old = issue_key(create_organization()).key
        self.rotate(old)

        with pytest.raises(ApiKeyHasSuccessor):
            self.rotate(old)

        assert ApiKey.objects.count() == 2

    def test_a_key_that_is_not_live_has_no_successor(self):
        old = issue_key(create_organization()).key

        with pytest.raises(ApiKeyNotLive):
            self.rotate(old, now=old.expires_at)

    def test_another_organizations_key_is_not_there(self):
        key = issue_key(create_organization()).key
        key.organization_id = create_organization().id

        with pytest.raises(ApiKeyNotFound):
            self.rotate(key)

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_make_one_successor(self):
        old = issue_key(create_organization()).key

        outcomes = race(*[partial(self.rotate, old)] * 4)

        assert sum(isinstance(outcome, ApiKeyHasSuccessor) for outcome in outcomes) == 3
        assert ApiKey.objects.count() == 2


class TestRevokeApiKey:
    def test_again_changes_nothing(self):
        key = issue_key(create_organization()).key
        revoke = partial(
            operations.revoke_api_key,
            organization_id=key.organization_id,
            api_key_id=key.id,
            reason="lost",
            actor=TESTS,
        )

        first = revoke(now=clock.now())
        again = revoke(now=clock.now() + timedelta(hours=1))

        assert again.revoked_at == first.revoked_at
        assert AuditEvent.objects.filter(act="accounts.revoke_api_key").count() == 1

    def test_a_revoked_key_never_comes_back(self):
        key = issue_key(create_organization()).key
        ApiKey.objects.filter(id=key.id).update(revoked_at=clock.now())

        with pytest.raises(IntegrityError, match="neither comes back"):
            ApiKey.objects.filter(id=key.id).update(revoked_at=None)

    def test_no_row_is_ever_deleted(self):
        key = issue_key(create_organization()).key

        with pytest.raises(IntegrityError, match="never deleted"):
            key.delete()


class TestCommand:
    def test_prints_a_token_with_every_scope(self, capsys):
        organization, person = create_organization(name="Northwind"), create_staff()

        call_command("create_api_key", "Northwind", "--issued-by", person.email, "--test")

        token = rules.parse_token(capsys.readouterr().out.strip())
        key = ApiKey.objects.get()
        assert (token.mode, token.key_id) == ("test", key.key_id)
        assert key.organization.live_twin_id == organization.id
        assert {"customers:read", "customers:write"} <= set(key.scopes)

    def test_says_what_is_wrong(self):
        with pytest.raises(CommandError, match="no such"):
            call_command("create_api_key", "Nobody", "--issued-by", "nobody@kassa.test")
