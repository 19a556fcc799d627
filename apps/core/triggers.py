"""
Triggers that protect the books.

A `Guard` is a django-pgtrigger trigger compiled without that library's `pgtrigger.ignore` switch:
a session that sets it is still refused. Bodies longer than a line live in an app's `sql/` folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, override

import pgtrigger
from pgtrigger import compiler


class GuardSql(compiler.UpsertTriggerSql):
    """The same installation SQL, without the switch and with a fixed search path."""

    @override
    def get_template(self) -> str:
        return """
            CREATE OR REPLACE FUNCTION {pgid}()
            RETURNS TRIGGER LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
                {declare}
                BEGIN
                    {func}
                END;
            $$;

            DROP TRIGGER IF EXISTS {pgid} ON {table};
            CREATE {constraint} TRIGGER {pgid}
                {when} {operation} ON {table}
                {timing}
                {referencing}
                FOR EACH {level} {condition}
                EXECUTE PROCEDURE {execute};

            COMMENT ON TRIGGER {pgid} ON {table} IS '{hash}';
        """


class Guard(pgtrigger.Trigger):
    """A trigger with no off switch."""

    @override
    def compile(self, model: Any) -> compiler.Trigger:
        return compiler.Trigger(
            name=self.name,
            sql=GuardSql(
                pgid=self.get_pgid(model),
                declare=self.render_declare(model),
                func=self.render_func(model),
                table=model._meta.db_table,
                constraint="CONSTRAINT" if self.timing else "",
                when=self.when,
                operation=self.operation,
                timing=f"DEFERRABLE INITIALLY {self.timing}" if self.timing else "",
                referencing=self.referencing or "",
                level=self.level,
                condition=self.render_condition(model),
                execute=self.render_execute(model),
            ),
        )


def body(module_file: str, name: str) -> str:
    """Return the SQL of `sql/<name>.sql` beside the module."""
    return (Path(module_file).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def append_only(name: str, *, removable: bool = False) -> Guard:
    """
    Refuse UPDATE, DELETE and TRUNCATE, whoever asks, also with no row in reach.

    Where rows are removable, a guard of their own says which: see `kept_for_a_month`.
    """
    changes = pgtrigger.Update | pgtrigger.Truncate
    return Guard(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=changes
        if removable
        else pgtrigger.Update | pgtrigger.Delete | pgtrigger.Truncate,
        func=(
            "RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP"
            f" USING ERRCODE = 'restrict_violation', CONSTRAINT = '{name}';"
        ),
    )


def never_deleted(name: str, *, removable: bool = False) -> Guard:
    """
    Refuse DELETE and TRUNCATE; rows of this table may change and never go.

    Where rows are removable, a guard of their own says which: see `kept_for_a_month`.
    """
    return Guard(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=pgtrigger.Truncate if removable else pgtrigger.Delete | pgtrigger.Truncate,
        func=(
            "RAISE EXCEPTION 'rows of % are never deleted', TG_TABLE_NAME"
            f" USING ERRCODE = 'restrict_violation', CONSTRAINT = '{name}';"
        ),
    )


def kept_for_a_month(name: str, *, unless: str = "false") -> Guard:
    """
    Refuse to DELETE a row whose id is younger than 30 days, or for which `unless` holds.

    That is SQL of OLD. When a row does go is decided elsewhere, and later.
    """
    return Guard(
        name=name,
        level=pgtrigger.Row,
        when=pgtrigger.Before,
        operation=pgtrigger.Delete,
        func=(
            f"IF OLD.id >= kassa_first_id(now() - interval '30 days') OR {unless} THEN"
            " RAISE EXCEPTION 'rows of % are kept', TG_TABLE_NAME"
            f" USING ERRCODE = 'restrict_violation', CONSTRAINT = '{name}'; END IF; RETURN OLD;"
        ),
    )


def frozen_columns(name: str, *, columns: Sequence[str]) -> Guard:
    """
    Refuse an UPDATE that changes one of these columns (NULLs compared as values).

    One that names none of them is not looked at.
    """
    changed = " OR ".join(f'OLD."{column}" IS DISTINCT FROM NEW."{column}"' for column in columns)
    return Guard(
        name=name,
        level=pgtrigger.Row,
        when=pgtrigger.Before,
        operation=pgtrigger.UpdateOf(*columns),
        func=(
            f"IF {changed} THEN RAISE EXCEPTION '%: {', '.join(columns)} never change', "
            f"TG_TABLE_NAME USING ERRCODE = 'restrict_violation', CONSTRAINT = '{name}'; END IF;"
            " RETURN NEW;"
        ),
    )


def moves_only(
    name: str,
    *,
    moves: Mapping[Any, Sequence[Any] | frozenset[Any] | set[Any]],
    column: str = "state",
) -> Guard:
    """Refuse an UPDATE that takes the state from one to another outside `moves`."""
    pairs = sorted((str(old), str(new)) for old, news in moves.items() for new in news)
    # A table without moves is one whose state never changes; SQL knows no empty list.
    listed = ", ".join(f"('{old}', '{new}')" for old, new in pairs or [("", "")])
    return Guard(
        name=name,
        level=pgtrigger.Row,
        when=pgtrigger.Before,
        operation=pgtrigger.UpdateOf(column),
        func=(
            f'IF OLD."{column}" IS DISTINCT FROM NEW."{column}"'
            f' AND (OLD."{column}", NEW."{column}") NOT IN ({listed}) THEN'
            f" RAISE EXCEPTION '%: % does not become %', TG_TABLE_NAME, OLD.\"{column}\","
            f" NEW.\"{column}\" USING ERRCODE = 'check_violation', CONSTRAINT = '{name}';"
            " END IF; RETURN NEW;"
        ),
    )
