"""People: made, given roles by two others, shut out."""

import io
from functools import partial

import pytest
from django.contrib.auth import get_user, get_user_model
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory

from apps.accounts import operations, queries
from apps.accounts.errors import (
    AdminsExist,
    CapabilityMissing,
    EmailTaken,
    OrganizationNotFound,
    OwnRole,
    RolePairRefused,
    StaffNotFound,
    UnknownTimeZone,
    WeakPassword,
)
from apps.accounts.models import Customer, Organization, Staff, StaffRole
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.models import AuditEvent, DataKey
from config.settings import base
from tests.accounts.factories import (
    PASSWORD,
    TESTS,
    create_customer,
    create_organization,
    create_staff,
)
from tests.support import race

pytestmark = pytest.mark.django_db


class TestCreateStaff:
    def test_the_first_two_admins_come_from_the_command(self, monkeypatch):
        for number in range(2):
            monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
            call_command("create_staff", f"Admin{number}@Kassa.test", stdout=io.StringIO())
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))

        with pytest.raises(CommandError, match="two admins"):
            call_command("create_staff", "third@kassa.test")
        assert sorted(Staff.objects.values_list("email", flat=True)) == [
            "admin0@kassa.test",
            "admin1@kassa.test",
        ]
        assert queries.count_admins() == 2

    @pytest.mark.parametrize(
        "password",
        [
            "short",
            "12345678901234567",
            "1q2w3e4r5t6y7u8i9o0p",
            "kassa-admin-password-1",
            "person.elsewhere",
        ],
    )
    def test_a_weak_password_is_refused(self, password):
        with pytest.raises(WeakPassword):
            operations.create_first_admin(
                email="person.elsewhere@kassa.test", name="P", password=password, now=clock.now()
            )

        assert not Staff.objects.exists()

    def test_a_third_admin_is_made_by_the_first_two(self):
        for _ in range(2):
            create_staff("admin")

        with pytest.raises(AdminsExist):
            operations.create_first_admin(
                email="third@kassa.test", name="Third", password=PASSWORD, now=clock.now()
            )

        assert Staff.objects.count() == 2

    def test_an_e_mail_is_somebodys_in_any_case(self):
        person = create_staff()

        with pytest.raises(EmailTaken):
            operations.create_staff(
                email=person.email.upper(),
                name="x",
                password=PASSWORD,
                actor=TESTS,
                now=clock.now(),
            )

    def test_an_admin_makes_people_without_roles(self):
        admin = create_staff("admin")
        create = partial(
            operations.create_staff,
            email="new@kassa.test",
            name="New",
            password=PASSWORD,
            actor=Actor.staff(admin.id),
            now=clock.now(),
        )

        with pytest.raises(OwnRole):
            create(role_names=["support"])
        assert queries.list_roles(staff_id=create().id) == frozenset()

    def test_nobody_else_does(self):
        with pytest.raises(CapabilityMissing):
            operations.create_staff(
                email="new@kassa.test",
                name="New",
                password=PASSWORD,
                actor=Actor.staff(create_staff("finance_approver").id),
                now=clock.now(),
            )

    def test_the_password_is_hashed_with_argon2_outside_of_tests(self):
        assert base.PASSWORD_HASHERS[0].endswith("Argon2PasswordHasher")


class TestGrantRole:
    def grant(self, staff, role, *, asks, decides):
        operations.grant_role(
            staff_id=staff.id,
            role=role,
            reason="joins the team",
            requested_by=Actor.staff(asks.id),
            actor=Actor.staff(decides.id),
            now=clock.now(),
        )

    def test_takes_two_admins_and_ends_the_persons_sessions(self):
        one, other, person = create_staff("admin"), create_staff("admin"), create_staff()

        self.grant(person, "support", asks=one, decides=other)
        self.grant(person, "support", asks=one, decides=other)

        assert queries.list_roles(staff_id=person.id) == {"support"}
        person.refresh_from_db()
        assert person.access_version == 2
        assert AuditEvent.objects.get(act="accounts.grant_role").after["requested_by"] == (
            f"staff:{one.id}"
        )

    def test_requester_decider_and_subject_are_three(self):
        one, other = create_staff("admin"), create_staff("admin")
        person = create_staff()

        for subject, asks, decides in ((person, one, one), (one, one, other), (one, other, one)):
            with pytest.raises(OwnRole):
                self.grant(subject, "admin", asks=asks, decides=decides)

    def test_both_are_admins(self):
        admin, approver = create_staff("admin"), create_staff("finance_approver")
        person = create_staff()

        for asks, decides in ((admin, approver), (approver, admin)):
            with pytest.raises(CapabilityMissing):
                self.grant(person, "support", asks=asks, decides=decides)
        assert not queries.list_roles(staff_id=person.id)

    def test_a_pair_that_does_not_go_together_is_refused(self):
        one, other = create_staff("admin"), create_staff("admin")
        person = create_staff("auditor")

        with pytest.raises(RolePairRefused):
            self.grant(person, "finance_maker", asks=one, decides=other)

        person.refresh_from_db()
        assert person.access_version == 1

    def test_nobody_is_nobody(self):
        with pytest.raises(StaffNotFound):
            operations.grant_role(
                staff_id=new_id(),
                role="support",
                reason="x",
                requested_by=Actor.staff(create_staff("admin").id),
                actor=Actor.staff(create_staff("admin").id),
                now=clock.now(),
            )

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_never_leave_a_refused_pair(self):
        one, other, person = create_staff("admin"), create_staff("admin"), create_staff()

        outcomes = race(
            partial(self.grant, person, "auditor", asks=one, decides=other),
            partial(self.grant, person, "support", asks=other, decides=one),
        )

        assert sum(isinstance(outcome, RolePairRefused) for outcome in outcomes) == 1
        assert StaffRole.objects.filter(staff=person).count() == 1


class TestRevokeRole:
    def test_takes_two_admins_and_ends_the_persons_sessions(self):
        one, other = create_staff("admin"), create_staff("admin")
        person = create_staff("support", "finance_maker")
        revoke = partial(
            operations.revoke_role,
            staff_id=person.id,
            role="support",
            reason="moves on",
            requested_by=Actor.staff(one.id),
            actor=Actor.staff(other.id),
        )

        revoke()
        revoke()

        assert queries.list_roles(staff_id=person.id) == {"finance_maker"}
        person.refresh_from_db()
        assert person.access_version == 2


class TestSessions:
    @pytest.fixture
    def signed_in(self):
        person = create_staff("support")
        client = Client()
        assert client.login(username=person.email.upper(), password=PASSWORD)
        return person, client

    def is_in(self, client):
        request = RequestFactory().get("/")
        request.session = client.session
        return get_user(request).is_authenticated

    def test_end_when_the_access_version_rises(self, signed_in):
        person, client = signed_in
        assert self.is_in(client)

        operations.end_sessions(
            staff_id=person.id, reason="lost laptop", actor=Actor.staff(person.id)
        )

        assert not self.is_in(client)

    def test_end_with_the_password_and_with_deactivation(self, signed_in):
        person, client = signed_in
        operations.deactivate_staff(
            staff_id=person.id, reason="left", actor=Actor.staff(create_staff("admin").id)
        )

        assert not self.is_in(client)
        assert not Client().login(username=person.email, password=PASSWORD)

    def test_nobody_shuts_themselves_out_or_ends_anothers(self, signed_in):
        person, _client = signed_in
        admin = create_staff("admin")

        with pytest.raises(OwnRole):
            operations.deactivate_staff(staff_id=admin.id, reason="x", actor=Actor.staff(admin.id))
        with pytest.raises(CapabilityMissing):
            operations.end_sessions(staff_id=admin.id, reason="x", actor=Actor.staff(person.id))


@pytest.mark.django_db(transaction=True)
class TestTwoAdmins:
    @pytest.mark.parametrize("_round", range(5))
    def test_who_shut_each_other_out_at_once_do_not_both_succeed(self, _round):
        one, other = create_staff("admin"), create_staff("admin")

        outcomes = race(
            *(
                partial(
                    operations.deactivate_staff,
                    staff_id=subject.id, reason="left", actor=Actor.staff(by.id),
                )
                for subject, by in ((one, other), (other, one))
            )
        )  # fmt: skip

        assert [type(outcome) for outcome in outcomes if outcome is not None] == [CapabilityMissing]
        assert Staff.objects.filter(id__in=[one.id, other.id], is_active=True).count() == 1

    def test_who_may_not_is_told_so_and_nobody_is_shut_out(self):
        support, admin = create_staff("support"), create_staff("admin")

        with pytest.raises(CapabilityMissing):
            operations.deactivate_staff(
                staff_id=admin.id, reason="x", actor=Actor.staff(support.id)
            )

        assert Staff.objects.get(id=admin.id).is_active


class TestScope:
    def test_staff_see_the_organizations_listed_for_them(self):
        one, other = create_organization(), create_organization()
        create_customer(one)
        create_customer(other)
        listed = create_staff("support", organizations=[one], sees_all=False)
        everywhere, nowhere = create_staff("support"), create_staff("support", sees_all=False)

        def seen(staff):
            return {row.organization_id for row in queries.for_staff(Customer.objects.all(), staff)}

        assert seen(listed) == {one.id}
        assert seen(everywhere) == {one.id, other.id}
        assert seen(nowhere) == set()
        assert set(queries.for_staff(Organization.objects.all(), listed)) == {one}

    def test_an_inactive_person_sees_nothing(self):
        create_customer(create_organization())
        person = create_staff("support")
        person.is_active = False

        assert not queries.for_staff(Customer.objects.all(), person)

    def test_a_capability_reaches_no_further_than_the_scope(self):
        organization = create_organization()
        person = create_staff("support", sees_all=False)

        with pytest.raises(OrganizationNotFound):
            queries.require_capability(
                actor=Actor.staff(person.id),
                capability="accounts.freeze_customer",
                organization_id=organization.id,
            )

    def test_asking_is_not_deciding(self):
        maker = Actor.staff(create_staff("finance_maker").id)

        queries.require_capability(actor=maker, capability="ledger.reverse_entry")
        with pytest.raises(CapabilityMissing):
            queries.require_capability(
                actor=maker, capability="ledger.reverse_entry", deciding=True
            )


class TestCreateOrganization:
    def test_comes_with_a_test_twin_and_keys_of_their_own(self):
        live = create_organization(time_zone="Europe/Berlin")
        test = queries.get_test_twin(organization_id=live.id)

        assert (live.mode, test.mode) == ("live", "test")
        assert test.time_zone == "Europe/Berlin"
        assert set(DataKey.objects.values_list("organization_id", flat=True)) == {live.id, test.id}
        assert str(test).endswith("(test)")

    def test_its_time_zone_is_on_the_map(self):
        with pytest.raises(UnknownTimeZone):
            create_organization(time_zone="Europe/Atlantis")

    def test_a_twin_has_no_twin(self):
        test = queries.get_test_twin(organization_id=create_organization().id)

        with pytest.raises(OrganizationNotFound):
            queries.get_test_twin(organization_id=test.id)


def test_the_user_model_is_ours():
    assert get_user_model() is Staff
