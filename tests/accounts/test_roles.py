"""The table of roles: every person, every pair, every capability."""

import itertools
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection

from apps.accounts import roles
from apps.accounts.models import StaffRole
from apps.accounts.roles import CAPABILITIES, Role, is_allowed, is_refused_pair, may_decide
from apps.core import clock
from tests.accounts.factories import create_staff
from tests.support import race

ROOT = Path(__file__).resolve().parents[2]
PAIRS = list(itertools.combinations(Role, 2))


class TestTable:
    def test_has_ten_roles_and_names_each_capability_once(self):
        assert len(Role) == 10
        assert len(CAPABILITIES) == len(roles._ROWS)
        assert all(name.count(".") == 1 for name in CAPABILITIES)

    @pytest.mark.parametrize(("one", "other"), PAIRS)
    def test_two_roles_give_exactly_their_sum(self, one, other):
        for name in CAPABILITIES:
            for check in (is_allowed, may_decide):
                alone = [check(name, roles=[role], is_verified=True) for role in (one, other)]
                assert check(name, roles=[one, other], is_verified=True) is any(alone)
        assert roles.capabilities_of([one, other]) == roles.capabilities_of(
            [one]
        ) | roles.capabilities_of([other])

    def test_what_is_not_in_it_is_denied_to_everybody(self):
        assert not is_allowed("payouts.print_money", roles=list(Role), is_verified=True)
        assert not may_decide("auth.add_group", roles=list(Role), is_verified=True)

    def test_without_a_second_factor_only_the_first_row_is_open(self):
        open_ = {
            name for name in CAPABILITIES if is_allowed(name, roles=list(Role), is_verified=False)
        }

        assert open_ == {name for name, row in CAPABILITIES.items() if not row.second_factor}
        assert all(".view_" in name for name in open_)

    def test_an_admin_sees_no_customer_and_touches_no_money(self):
        assert {name.split(".")[0] for name in roles.capabilities_of([Role.ADMIN])} == {
            "accounts",
            "core",
        }
        assert not is_allowed("accounts.view_customer", roles=[Role.ADMIN], is_verified=True)

    def test_an_auditor_only_looks_and_exports(self):
        held = roles.capabilities_of([Role.AUDITOR])

        assert {name for name in held if ".view_" not in name} == {"core.export"}

    def test_a_maker_asks_and_an_approver_decides(self):
        for name in ("ledger.reverse_entry", "payouts.request_payout", "approvals.change_policy"):
            assert is_allowed(name, roles=[Role.FINANCE_MAKER], is_verified=True)
            assert not may_decide(name, roles=[Role.FINANCE_MAKER], is_verified=True)
            assert may_decide(name, roles=[Role.FINANCE_APPROVER], is_verified=True)
        assert not is_allowed("payouts.approve_payout", roles=["finance_maker"], is_verified=True)

    def test_who_may_only_ask_never_does_it_alone(self):
        assert all(row.full.isdisjoint(row.asks) for row in CAPABILITIES.values())

    def test_names_nothing_that_nobody_asks_for(self):
        table = Path(roles.__file__)
        sources = [path.read_text() for path in (ROOT / "apps").rglob("*.py") if path != table]

        assert [
            name for name in CAPABILITIES if not any(f'"{name}"' in source for source in sources)
        ] == []

    def test_the_matrix_in_the_documents_is_this_one(self, capsys):
        call_command("roles_matrix")

        assert (ROOT / "docs" / "roles.md").read_text() == capsys.readouterr().out


class TestPairs:
    def test_refused_are_the_admin_with_anything_and_the_auditor_with_what_acts(self):
        refused = {frozenset(pair) for pair in PAIRS if is_refused_pair(*pair)}

        assert refused == {frozenset({Role.ADMIN, role}) for role in Role if role != Role.ADMIN} | {
            frozenset({Role.AUDITOR, role})
            for role in Role
            if role not in {Role.AUDITOR, Role.SUPPORT_READONLY}
        }

    @pytest.mark.django_db
    @pytest.mark.parametrize(("one", "other"), PAIRS)
    def test_the_database_holds_the_same_rule(self, one, other):
        person = create_staff(one)
        row = StaffRole(staff=person, role=other, granted_by="sql", granted_at=clock.now())

        if is_refused_pair(one, other):
            with pytest.raises(IntegrityError, match="nobody holds both"):
                row.save()
        else:
            row.save()

    @pytest.mark.django_db(transaction=True)
    def test_two_grants_at_once_do_not_slip_past_it(self):
        person = create_staff()

        def grant(role):
            try:
                StaffRole.objects.create(
                    staff=person, role=role, granted_by="sql", granted_at=clock.now()
                )
            except IntegrityError:
                return None
            return role

        outcomes = race(*(lambda role=role: grant(role) for role in ("admin", "support") * 3))

        assert len({outcome for outcome in outcomes if outcome}) == 1
        assert StaffRole.objects.count() == 1

    @pytest.mark.django_db
    def test_a_role_nobody_knows_is_refused_by_the_database(self):
        person = create_staff()

        with pytest.raises(IntegrityError, match="staff_role_is_known"):
            StaffRole.objects.create(
                staff=person, role="owner", granted_by="sql", granted_at=clock.now()
            )


@pytest.mark.django_db
class TestStaff:
    def test_there_is_no_superuser(self):
        person = create_staff()

        with (
            pytest.raises(IntegrityError, match="staff_has_no_superuser"),
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "UPDATE accounts_staff SET is_superuser = true WHERE id = %s", [person.id]
            )

    def test_has_the_permissions_of_the_roles(self):
        approver = create_staff("finance_approver")

        assert approver.has_perm("payouts.approve_payout")
        assert approver.has_module_perms("payouts")
        assert not approver.has_perm("accounts.grant_role")
        assert not approver.has_perm("payouts.delete_payout")

    def test_has_next_to_none_where_a_second_factor_is_required_and_not_shown(self, settings):
        settings.STAFF_REQUIRES_SECOND_FACTOR = True
        approver = create_staff("finance_approver")

        assert not approver.has_perm("payouts.approve_payout")
        assert approver.has_perm("payouts.view_payout")
        approver.second_factor_shown = True
        assert approver.has_perm("payouts.approve_payout")

    def test_has_none_when_inactive(self):
        person = create_staff("finance_approver")
        person.is_active = False

        assert not person.has_perm("payouts.view_payout")
