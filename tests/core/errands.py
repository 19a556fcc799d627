"""
A kind of work of the tests' own, as a developer would add one: a row, a claim, an operation.

It is there while a test wants it: other tests know neither its table nor its kind.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, models
from django.db.migrations.state import ProjectState
from django.test.utils import isolate_apps

from apps.core import working
from apps.core.storage import StoreAsWork
from apps.core.work import WorkRow, _registry, work_indexes
from apps.core.working import Worker

KIND = "tests.errands"
TASK = "tests.run_errands"

with isolate_apps("apps.core"):

    class Errand(WorkRow):
        """Something to do, and how often it was done."""

        organization_id = models.UUIDField()
        name = models.CharField(max_length=50)
        times_done = models.PositiveIntegerField(default=0)

        class Meta:
            app_label = "core"
            db_table = "tests_errand"
            indexes = work_indexes("errand")


# Errands that fail, with what they raise; a test adds some.
faults: dict[str, BaseException] = {}


def do(errand: Errand) -> None:
    """Do it, once more, in the transaction that records it."""
    errand.times_done += 1
    errand.save(update_fields=["times_done"])
    if errand.name in faults:
        raise faults[errand.name]


ERRANDS = Worker(
    kind=KIND,
    model=Errand,
    task=TASK,
    queue="default",
    batch=50,
    perform=working.at_once(do),
)
run_errands = working.register(ERRANDS)
_kind = _registry._kinds.pop(KIND)


@contextmanager
def installed() -> Iterator[None]:
    """Have the kind registered, and its table there, until the block ends."""
    with connection.schema_editor() as editor:
        editor.create_model(Errand)
        StoreAsWork("tests_errand").database_forwards(
            "core", editor, ProjectState(), ProjectState()
        )
    _registry._kinds[KIND] = _kind
    try:
        yield
    finally:
        del _registry._kinds[KIND]
        faults.clear()
        with connection.schema_editor() as editor:
            editor.delete_model(Errand)
