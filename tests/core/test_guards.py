"""What Postgres itself refuses: rows of another organization, changes of the past, false moves."""

from contextlib import contextmanager

import pytest
from django.db import IntegrityError, connection, models
from django.db.migrations.writer import MigrationWriter
from django.test.utils import isolate_apps

from apps.core.constraints import OwnedKey, SameOrganization, TiedCopy
from apps.core.ids import new_id
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted

pytestmark = pytest.mark.django_db(transaction=True)

ONE, OTHER = new_id(), new_id()


def declare():
    """Declare two models as apps do: a target, and a row that points at it."""

    class Organization(models.Model):
        id = models.UUIDField(primary_key=True)

        class Meta:
            app_label = "core"
            managed = False

    class Target(models.Model):
        id = models.UUIDField(primary_key=True, default=new_id)
        organization = models.ForeignKey(Organization, models.PROTECT, db_constraint=False)
        currency = models.CharField(max_length=3, default="EUR")

        class Meta:
            app_label = "core"
            db_table = "tests_target"
            constraints = [
                OwnedKey(name="target_key"),
                models.UniqueConstraint(
                    name="target_currency_key", fields=["organization", "id", "currency"]
                ),
            ]

    class Row(models.Model):
        id = models.UUIDField(primary_key=True, default=new_id)
        organization = models.ForeignKey(Organization, models.PROTECT, db_constraint=False)
        target = models.ForeignKey(Target, models.PROTECT, null=True, db_constraint=False)
        tied = models.ForeignKey(
            Target, models.PROTECT, null=True, db_constraint=False, related_name="+"
        )
        currency = models.CharField(max_length=3, default="EUR")
        state = models.CharField(max_length=9, default="new")

        class Meta:
            app_label = "core"
            db_table = "tests_row"
            constraints = [
                SameOrganization(name="row_owns_its_target", field="target"),
                TiedCopy(name="row_has_its_currency", field="tied", copies=["currency"]),
            ]

    return Target, Row


@contextmanager
def tables():
    with isolate_apps("apps.core"):
        target, row = declare()
        with connection.schema_editor() as editor:
            editor.create_model(target)
            editor.create_model(row)
        try:
            yield target, row
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE IF EXISTS tests_row, tests_target CASCADE")


@pytest.fixture
def made():
    with tables() as both:
        yield both


def broken_constraint(call) -> str:
    with pytest.raises(IntegrityError) as refused:
        call()
    return refused.value.__cause__.diag.constraint_name


class TestSameOrganization:
    def test_lets_a_row_point_within_its_organization_or_nowhere(self, made):
        target, row = made
        mine = target.objects.create(organization_id=ONE)

        row.objects.create(organization_id=ONE, target=mine)
        row.objects.create(organization_id=ONE)

        assert row.objects.count() == 2

    def test_refuses_anothers_row(self, made):
        target, row = made
        mine = target.objects.create(organization_id=ONE)

        assert (
            broken_constraint(lambda: row.objects.create(organization_id=OTHER, target=mine))
            == "row_owns_its_target"
        )

    def test_refuses_a_row_that_is_not_there_and_to_let_one_go(self, made):
        target, row = made
        mine = target.objects.create(organization_id=ONE)
        row.objects.create(organization_id=ONE, target=mine)

        broken_constraint(lambda: row.objects.create(organization_id=ONE, target_id=new_id()))
        with connection.cursor() as cursor:
            broken_constraint(lambda: cursor.execute("DELETE FROM tests_target"))

    def test_is_removed_and_added_by_a_migration(self, made):
        target, row = made
        [constraint, _] = row._meta.constraints
        with connection.schema_editor() as editor:
            editor.remove_constraint(row, constraint)
        mine = target.objects.create(organization_id=ONE)
        row.objects.create(organization_id=OTHER, target=mine).delete()

        with connection.schema_editor() as editor:
            editor.add_constraint(row, constraint)

        broken_constraint(lambda: row.objects.create(organization_id=OTHER, target=mine))

    def test_is_written_into_a_migration_and_compared(self):
        one = SameOrganization(name="n", field="f")

        assert one == one.clone() != SameOrganization(name="n", field="g")
        assert hash(one) == hash(one.clone())
        assert MigrationWriter.serialize(one)[0] == (
            "apps.core.constraints.SameOrganization(field='f', name='n')"
        )


class TestTiedCopy:
    def test_refuses_a_copy_that_is_none(self, made):
        target, row = made
        euros = target.objects.create(organization_id=ONE)
        row.objects.create(organization_id=ONE, tied=euros)

        assert (
            broken_constraint(
                lambda: row.objects.create(organization_id=ONE, tied=euros, currency="USD")
            )
            == "row_has_its_currency"
        )

    def test_is_written_into_a_migration_with_its_copies(self):
        tied = TiedCopy(name="n", field="f", copies=["a", "b"])

        assert tied == tied.clone()
        assert tied != SameOrganization(name="n", field="f")


def execute(statement: str) -> None:
    # As somebody would who knows the library's switch.
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pgtrigger.ignore', '{tests_row:the_guard}', false)")
        cursor.execute(statement)


@pytest.fixture
def guarded(made):
    _, row = made

    def install(guard):
        guard.install(row)
        row.objects.create(organization_id=ONE)
        return row

    return install


class TestGuards:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE tests_row SET currency = 'USD'",
            "UPDATE tests_row SET currency = 'USD' WHERE false",
            "DELETE FROM tests_row",
            "TRUNCATE tests_row",
        ],
    )
    def test_append_only_refuses_every_change_though_switched_off(self, guarded, statement):
        guarded(append_only("the_guard"))

        assert broken_constraint(lambda: execute(statement)) == "the_guard"

    def test_never_deleted_lets_rows_change(self, guarded):
        row = guarded(never_deleted("the_guard"))

        execute("UPDATE tests_row SET currency = 'USD'")

        for statement in ("DELETE FROM tests_row", "TRUNCATE tests_row"):
            assert broken_constraint(lambda s=statement: execute(s)) == "the_guard"
        assert row.objects.get().currency == "USD"

    def test_frozen_columns_compares_null_as_a_value(self, guarded):
        row = guarded(frozen_columns("the_guard", columns=["target_id", "currency"]))

        execute("UPDATE tests_row SET state = 'old', currency = 'EUR'")

        for change in ("currency = 'USD'", "target_id = gen_random_uuid()"):
            assert (
                broken_constraint(lambda c=change: execute(f"UPDATE tests_row SET {c}"))
                == "the_guard"
            )
        assert row.objects.get().state == "old"

    def test_moves_only_knows_the_way(self, guarded):
        row = guarded(moves_only("the_guard", moves={"new": ["open"], "open": {"done", "new"}}))

        for state in ("new", "open", "open", "new", "open", "done"):
            execute(f"UPDATE tests_row SET state = '{state}'")
        for state in ("new", "open", "x"):
            assert (
                broken_constraint(lambda s=state: execute(f"UPDATE tests_row SET state = '{s}'"))
                == "the_guard"
            )
        assert row.objects.get().state == "done"

    def test_run_with_a_search_path_of_their_own(self, guarded):
        guarded(append_only("the_guard"))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT proconfig FROM pg_proc JOIN pg_trigger ON tgfoid = pg_proc.oid"
                " WHERE tgrelid = 'tests_row'::regclass AND NOT tgisinternal"
            )

            assert cursor.fetchall() == [(["search_path=public, pg_temp"],)]
