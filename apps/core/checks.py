"""System checks: the direction of the house where no import linter looks, events, work rows."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from celery import current_app
from django.apps import apps
from django.core import checks
from django.db import connection
from django.db.models import ForeignKey
from django.urls import get_resolver

from apps.core import work
from apps.core.api.caller import declared_scopes
from apps.core.events import catalogued_events, public_type
from apps.core.work import STORAGE, WorkRow, work_indexes

# app.noun.past_participle (house style, section 4).
_EVENT_NAME: Final = re.compile(r"([a-z]+)\.[a-z_]+\.[a-z_]+")

# The level of each app; siblings share one. A test compares it with the import contract.
RANK: Final = {
    "core": 0,
    "accounts": 1,
    "ledger": 2,
    "webhooks": 3,
    "banking": 4,
    "approvals": 5,
    "risk": 6,
    "payments": 7,
    "payouts": 7,
    "settlements": 8,
    "reconciliation": 9,
    "backoffice": 10,
}

# Tables by name, and the partitions of those that have some, which alone store rows.
_STORED: Final = """
    SELECT own.relname, own.reloptions
      FROM pg_class AS own
      LEFT JOIN pg_inherits AS link ON link.inhrelid = own.oid
      LEFT JOIN pg_class AS parent ON parent.oid = link.inhparent
     WHERE own.relkind = 'r' AND own.relnamespace = current_schema()::regnamespace
       AND COALESCE(parent.relname, own.relname) = ANY(%s)
     ORDER BY own.relname
"""


@checks.register(checks.Tags.models)
def foreign_keys_point_down(**_: object) -> list[checks.CheckMessage]:
    """Refuse a foreign key to an app that is not below: one named by a text leaves no import."""
    return [
        checks.Error(f"{field} points at {target}, which is not below it.", id="kassa.E001")
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if isinstance(field, ForeignKey)
        and not isinstance(field.related_model, str)
        and (source := model._meta.app_label) in RANK
        and (target := field.related_model._meta.app_label) in RANK
        and target != source
        and RANK[target] >= RANK[source]
    ]


@checks.register(checks.Tags.models)
def event_names_are_sound(**_: object) -> list[checks.CheckMessage]:
    """Refuse an event whose name is malformed, not its app's, or another's; types are public."""
    kinds = catalogued_events()
    names = Counter(kind.name for kind in kinds)
    types = Counter(public_type(kind.name) for kind in kinds if kind.public)
    taken = {name for name, count in names.items() if count > 1}
    doubled = {type_ for type_, count in types.items() if count > 1}
    found: list[checks.CheckMessage] = []
    for kind in kinds:
        app = kind.__module__.split(".")[1]
        matched = _EVENT_NAME.fullmatch(kind.name)
        if matched is None or matched[1] != app:
            hint = f"The events of this app are named {app}.noun.past_participle."
            found.append(checks.Error(f"{kind.name} is misnamed.", hint=hint, id="kassa.E002"))
        if kind.name in taken or (kind.public and public_type(kind.name) in doubled):
            found.append(checks.Error(f"{kind.name} is declared twice.", id="kassa.E003"))
    return found


@checks.register(checks.Tags.urls)
def events_have_a_reader(**_: object) -> list[checks.CheckMessage]:
    """Refuse a public event whose `read_scope` is that of no route: it would bind nobody."""
    # Scopes are declared as the views are made.
    get_resolver().url_patterns  # noqa: B018 - loads them
    hint = "Name the scope that the route asks for which shows what the event is about."
    unread = [
        kind.name
        for kind in catalogued_events()
        if kind.public and kind.read_scope not in declared_scopes()
    ]
    return [
        checks.Error(f"No route asks for the read_scope of {name}.", hint=hint, id="kassa.E006")
        for name in unread
    ]


def work_models() -> list[type[WorkRow]]:
    """Return every model of work rows that has a table."""
    return [model for model in apps.get_models() if issubclass(model, WorkRow)]


@checks.register(checks.Tags.models)
def work_rows_are_found(**_: object) -> list[checks.CheckMessage]:
    """Refuse a model of work rows that nobody sweeps for, or whose open rows have no index."""
    registered = {kind.model for kind in work.kinds()}
    wanted = {(tuple(one.fields), str(one.condition)) for one in work_indexes("any")}
    found: list[checks.CheckMessage] = []
    for model in work_models():
        name = model._meta.label
        if model not in registered:
            hint = "apps.core.working.register is how rows get worked."
            found.append(checks.Error(f"{name} has no kind of work.", hint=hint, id="kassa.E004"))
        indexes = {(tuple(one.fields), str(one.condition)) for one in model._meta.indexes}
        if not wanted <= indexes:
            hint = "apps.core.work.work_indexes makes them."
            found.append(checks.Error(f"{name} lacks an index.", hint=hint, id="kassa.E005"))
    return found


@checks.register(checks.Tags.models)
def work_is_taken_over_in_time(**_: object) -> list[checks.CheckMessage]:
    """Refuse a kind whose lease is longer than a minute, or than its task is sure to have ended."""
    found: list[checks.CheckMessage] = []
    for kind in work.kinds():
        if kind.lease_seconds > work.TAKEN_OVER_SECONDS_MAX:
            said = f"{kind.name} has a lease of {kind.lease_seconds} s."
            hint = "A dead worker's rows are taken over within a minute: work is cut in portions."
            found.append(checks.Error(said, hint=hint, id="kassa.E007"))
        task = current_app.tasks.get(kind.task)
        # In threads Celery ends no task: the work keeps to the limit itself.
        if task is None or not (kind.in_threads or task.time_limit == kind.hard_seconds):
            said = f"{kind.task} does not end when {kind.name} says."
            hint = "apps.core.working.limits makes the limits of a task."
            found.append(checks.Error(said, hint=hint, id="kassa.E008"))
    return found


@checks.register(checks.Tags.database)
def work_tables_stay_hot(
    *, databases: Sequence[str] | None = None, **_: object
) -> list[checks.CheckMessage]:
    """Warn of a work table without its storage options; no error, as the migration checks first."""
    if not databases:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_STORED, [[model._meta.db_table for model in work_models()]])
        stored = cursor.fetchall()
    wanted = {f"{name}={value}" for name, value in STORAGE.items()}
    hint = "A migration sets apps.core.work.STORAGE."
    return [
        checks.Warning(f"{table} is not stored as work rows are.", hint=hint, id="kassa.W001")
        for table, options in stored
        if not wanted <= set(options or ())
    ]


@checks.register(checks.Tags.database, deploy=True)
def plans_are_for_anybody(
    *, databases: Sequence[str] | None = None, **_: object
) -> list[checks.CheckMessage]:
    """
    Refuse a connection whose prepared statements are planned for their values (ADR 0160).

    For `check --deploy --database default`: a pooler may have dropped what the process asked for.
    """
    if not databases:
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('plan_cache_mode')")
        [(role, mode)] = cursor.fetchall()
    if mode == "force_generic_plan":
        return []
    said = f"The statements of {role} are planned for their values (plan_cache_mode is {mode})."
    hint = f"ALTER ROLE {role} SET plan_cache_mode = force_generic_plan"
    return [checks.Error(said, hint=hint, id="kassa.E018")]
