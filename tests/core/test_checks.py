"""The direction of the house, where an import linter cannot look; what work rows must have."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, models
from django.test.utils import isolate_apps

from apps.accounts.tasks import SENDING
from apps.backoffice.operations import figures
from apps.core import checks, jobs, retention, work, working
from apps.core.checks import RANK
from apps.core.work import WorkRow, _registry
from apps.reconciliation.tasks import MATCHING
from apps.webhooks.tasks import CHANGES

CONTRACTS = tomllib.loads((Path(settings.BASE_DIR) / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]


def layers() -> dict[str, int]:
    """Return each app's level as the first import contract has it, the lowest being 0."""
    [contract] = [one for one in CONTRACTS if one["name"] == "Apps depend downwards only"]
    found = {}
    for level, names in enumerate(reversed(contract["layers"])):
        for name in names.split("|"):
            found[name.strip().removeprefix("apps.")] = level
    return found


class TestRank:
    def test_is_that_of_the_first_import_contract(self):
        expected = layers()
        del expected["config"]

        assert expected == RANK

    def test_knows_every_app(self):
        ours = {
            config.label for config in apps.get_app_configs() if config.name.startswith("apps.")
        }

        assert ours <= set(RANK)


class TestForeignKeysPointDown:
    def test_in_every_model(self):
        assert checks.foreign_keys_point_down() == []

    def test_and_one_named_by_a_text_is_found(self, monkeypatch):
        with isolate_apps("apps.core", "apps.ledger") as isolated:

            class Above(models.Model):
                class Meta:
                    app_label = "ledger"

            class Below(models.Model):
                above = models.ForeignKey("ledger.Above", on_delete=models.PROTECT)

                class Meta:
                    app_label = "core"

            monkeypatch.setattr(checks.apps, "get_models", isolated.get_models)
            [error] = checks.foreign_keys_point_down()

        assert (error.id, error.msg) == (
            "kassa.E001",
            "core.Below.above points at ledger, which is not below it.",
        )


class TestWorkRowsAreFound:
    def test_in_every_app(self):
        assert len(checks.work_models()) >= 7
        assert checks.work_rows_are_found() == []

    def test_and_a_model_is_named_that_nobody_works_or_that_has_no_index(self, monkeypatch):
        with isolate_apps("apps.core") as isolated:

            class Forgotten(WorkRow):
                class Meta:
                    app_label = "core"

            monkeypatch.setattr(checks.apps, "get_models", isolated.get_models)
            found = checks.work_rows_are_found()

        assert [(error.id, error.msg) for error in found] == [
            ("kassa.E004", "core.Forgotten has no kind of work."),
            ("kassa.E005", "core.Forgotten lacks an index."),
        ]


class TestWorkIsTakenOverInTime:
    def test_in_every_app(self):
        assert len(work.kinds()) >= 10
        assert checks.work_is_taken_over_in_time() == []

    def test_with_some_of_the_minute_to_spare(self):
        leases = {kind.name: kind.lease_seconds for kind in work.kinds()}

        # A call of a bank has three times its channel's patience.
        longer = {name: lease for name, lease in leases.items() if lease > 47}
        assert longer == {"banking.polls": 52, "payouts.batches": 52}

    def test_by_work_that_has_25_s_before_it_is_warned(self):
        # Invariants look at another statement until ten seconds are over, and each has twelve.
        assert figures.CHECK_SECONDS_MAX + figures.STATEMENT_SECONDS_MAX <= 25
        assert retention.PASS_SECONDS <= 25
        for worker in (jobs.RUNNING, SENDING, MATCHING, CHANGES):
            soft = working.limits(worker.hard_seconds)["soft_time_limit"]
            assert soft - worker.seconds_max == 25

    def test_by_any_other_that_has_15_s_however_late_in_its_task_it_begins(self):
        shortest = min(kind.hard_seconds for kind in work.kinds() if not kind.in_threads)

        soft = working.limits(shortest)["soft_time_limit"]
        assert soft - working.TASK_SECONDS_MAX == 15

    def test_and_a_kind_is_named_whose_lease_is_too_long_or_whose_task_goes_on(self, monkeypatch):
        relay = work.find_kind("core.relay")
        kinds = {
            "a.long": replace(relay, name="a.long", hard_seconds=46),
            "a.lost": replace(relay, name="a.lost", task="a.task"),
        }
        monkeypatch.setattr(_registry, "_kinds", kinds)

        found = checks.work_is_taken_over_in_time()

        assert [(error.id, error.msg) for error in found] == [
            ("kassa.E007", "a.long has a lease of 61 s."),
            ("kassa.E008", "core.relay does not end when a.long says."),
            ("kassa.E008", "a.task does not end when a.lost says."),
        ]

    def test_and_a_thread_keeps_to_its_limit_itself(self, monkeypatch):
        relay = replace(work.find_kind("core.relay"), hard_seconds=25)
        monkeypatch.setattr(_registry, "_kinds", {"core.relay": replace(relay, in_threads=True)})

        assert checks.work_is_taken_over_in_time() == []


@pytest.mark.django_db
class TestWorkTablesStayHot:
    @pytest.mark.parametrize("table", [model._meta.db_table for model in checks.work_models()])
    def test_as_the_catalogue_says(self, table):
        with connection.cursor() as cursor:
            cursor.execute(checks._STORED, [[table]])
            stored = cursor.fetchall()

        # A partitioned table stores nothing itself.
        assert stored != []
        for _, options in stored:
            assert dict(option.split("=") for option in options) == work.STORAGE

    def test_in_every_app(self):
        assert checks.work_tables_stay_hot(databases=["default"]) == []
        assert checks.work_tables_stay_hot() == []

    def test_and_one_is_named_that_does_not(self):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE banking_file_work RESET (fillfactor)")

        [warning] = checks.work_tables_stay_hot(databases=["default"])

        assert (warning.id, warning.msg) == (
            "kassa.W001",
            "banking_file_work is not stored as work rows are.",
        )


class TestOtherContracts:
    def test_name_every_app_once_more(self):
        [contract] = [one for one in CONTRACTS if "containers" in one]

        assert {name.removeprefix("apps.") for name in contract["containers"]} == set(RANK) - {
            "core"
        }
