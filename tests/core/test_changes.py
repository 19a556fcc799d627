"""Changes that a migration makes together: the same statements, and models rendered once."""

import re

import pytest
from django.apps import apps
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import connection, models
from django.db.migrations import Migration
from django.db.migrations import operations as djangos
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState, StateApps
from django.db.migrations.writer import MigrationWriter

from apps.core.changes import Together, listed, together

CREATE = djangos.CreateModel("Box", [("id", models.BigAutoField(primary_key=True))])
FIELD = djangos.AddField("box", "name", models.CharField(max_length=9, default=""))
INDEX = djangos.AddIndex("box", models.Index(name="box_by_name", fields=["name"]))
OTHER = djangos.AddField("lid", "name", models.CharField(max_length=9, default=""))
SQL = djangos.RunSQL("SELECT 1", "SELECT 1")


def grouped(*operations):
    return [listed([operation]) for operation in together(operations)]


class TestTogether:
    @pytest.fixture
    def rendered(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many models were rendered, each time that some were."""
        times: list[int] = []
        render = StateApps.render_multiple

        def count(self, states):
            if states:
                times.append(len(states))
            render(self, states)

        monkeypatch.setattr(StateApps, "render_multiple", count)
        return times

    @pytest.mark.django_db
    @pytest.mark.parametrize(("direction", "renders"), [("apply", [22, 2]), ("unapply", [22, 3])])
    def test_is_the_same_statements_as_one_by_one(self, direction, renders, rendered):
        loader = MigrationLoader(connection)
        node = ("approvals", "0001_initial")
        operations = loader.get_migration(*node).operations
        statements, times = [], []
        for steps in (listed(operations), operations):
            state = loader.project_state(node, at_end=False)
            assert state.apps
            rendered.clear()
            migration = Migration(*reversed(node))
            migration.operations = steps
            with connection.schema_editor(collect_sql=True) as editor:
                getattr(migration, direction)(state, editor, collect_sql=True)
            # What an operation says of itself stands between; the rest are statements.
            statements.append([sql for sql in editor.collected_sql if not sql.startswith("--")])
            times.append(len(rendered))

        assert statements[0] == statements[1]
        assert len(statements[0]) >= len(listed(operations))
        assert times == renders

    def test_is_written_as_it_was_read(self):
        [step] = together([FIELD, INDEX])

        written, imports = MigrationWriter.serialize(step)

        assert re.sub(r"\s", "", written).startswith("apps.core.changes.Together(operations=[")
        assert "import apps.core.changes" in imports
        assert step.describe() == f"{FIELD.describe()}; {INDEX.describe()}"


class TestWhatGoesTogether:
    def test_is_what_follows_each_other(self):
        assert grouped(FIELD, OTHER, INDEX) == [[FIELD, OTHER, INDEX]]

    def test_is_a_table_only_with_what_is_not_added_to_it(self):
        """It would be there from the start, and then once more."""
        assert grouped(CREATE, OTHER, FIELD, INDEX) == [[CREATE, OTHER], [FIELD, INDEX]]

    @pytest.mark.parametrize("direction", ["apply", "unapply"])
    @pytest.mark.parametrize(
        "constraint",
        [
            djangos.AddConstraint(
                "box",
                models.UniqueConstraint(
                    name="box_of_name", fields=["id"], condition=models.Q(name="a")
                ),
            ),
            AddConstraintNotValid(
                "box", models.CheckConstraint(name="box_has_name", condition=~models.Q(name=""))
            ),
        ],
        ids=["with a condition", "not valid yet"],
    )
    @pytest.mark.django_db
    def test_is_a_constraint_only_without_the_field_that_it_may_name(self, direction, constraint):
        assert grouped(FIELD, OTHER, constraint) == [[FIELD, OTHER], [constraint]]
        migration = Migration("0002_name", "boxes")
        migration.operations = together([FIELD, constraint])
        state = ProjectState()
        CREATE.state_forwards("boxes", state)

        with connection.schema_editor(collect_sql=True) as editor:
            getattr(migration, direction)(state, editor, collect_sql=True)

        assert any(constraint.constraint.name in sql for sql in editor.collected_sql)

    def test_is_nothing_across_what_may_look_at_the_table(self):
        assert grouped(FIELD, SQL, INDEX, OTHER) == [[FIELD], [SQL], [INDEX, OTHER]]

    def test_leaves_alone_what_stands_alone(self):
        assert together([FIELD, SQL]) == [FIELD, SQL]

    def test_is_so_in_every_migration_of_ours(self):
        """One that fails here has `operations = together([...])` to write."""
        ours = {
            config.label for config in apps.get_app_configs() if config.name.startswith("apps.")
        }
        apart = [
            str(migration)
            for (app, _), migration in MigrationLoader(None).disk_migrations.items()
            if app in ours and len(together(migration.operations)) < len(migration.operations)
        ]

        assert apart == []
        assert any(
            isinstance(step, Together)
            for migration in MigrationLoader(None).disk_migrations.values()
            for step in migration.operations
        )
