"""Constraints that keep tenants apart: the composite key and the composite foreign key."""

from collections.abc import Sequence
from typing import Any, Self, override

from django.db import models
from django.db.backends.ddl_references import Statement
from django.db.models.constraints import BaseConstraint


class OwnedKey(models.UniqueConstraint):
    """UNIQUE (organization, id): what a `SameOrganization` elsewhere points at."""

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name, fields=["organization", "id"])

    @override
    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", (), {"name": self.name}


class SameOrganization(BaseConstraint):
    """
    FOREIGN KEY (organization_id, field) REFERENCES target (organization_id, id).

    A reference into another organisation's rows fails in Postgres itself. The target declares an
    `OwnedKey`. With a NULL in `field` nothing is checked (MATCH SIMPLE).
    """

    copies: tuple[str, ...] = ()

    def __init__(self, *, name: str, field: str) -> None:
        super().__init__(name=name)
        self.field = field

    @override
    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        return self.create_sql(model, schema_editor)

    @override
    def create_sql(self, model: Any, schema_editor: Any) -> Any:
        # At the end of the migration, when every table and the target's key are there.
        source = model._meta
        target = source.get_field(self.field).related_model._meta
        own = [source.get_field(name).column for name in (self.field, *self.copies)]
        theirs = ["id", *(target.get_field(name).column for name in self.copies)]
        quote = schema_editor.quote_name
        statement = Statement(
            "ALTER TABLE %(table)s ADD CONSTRAINT %(name)s"
            " FOREIGN KEY (organization_id, %(own)s)"
            " REFERENCES %(target)s (organization_id, %(theirs)s)",
            table=quote(source.db_table),
            name=quote(self.name),
            own=", ".join(map(quote, own)),
            target=quote(target.db_table),
            theirs=", ".join(map(quote, theirs)),
        )
        schema_editor.deferred_sql.append(statement)

    @override
    def remove_sql(self, model: Any, schema_editor: Any) -> Any:
        quote = schema_editor.quote_name
        return Statement(
            "ALTER TABLE %(table)s DROP CONSTRAINT %(name)s",
            table=quote(model._meta.db_table),
            name=quote(self.name),
        )

    @override
    def validate(self, *_: Any, **__: Any) -> None:
        """Leave the check to Postgres: rows are written by operations, not by model forms."""

    @override
    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, (), {"name": self.name, "field": self.field}

    @override
    def clone(self) -> Self:
        _, _, options = self.deconstruct()
        return type(self)(**options)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameOrganization) and self.deconstruct() == other.deconstruct()

    @override
    def __hash__(self) -> int:
        return hash((self.name, self.field, self.copies))


class TiedCopy(SameOrganization):
    """
    A composite foreign key that carries copies of the target's columns, so a CHECK can see them.

    FOREIGN KEY (organization_id, field, copies…) REFERENCES target (organization_id, id, copies…).
    The target declares a unique constraint over exactly those fields.
    """

    def __init__(self, *, name: str, field: str, copies: Sequence[str]) -> None:
        super().__init__(name=name, field=field)
        self.copies = tuple(copies)

    @override
    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        path, arguments, options = super().deconstruct()
        return path, arguments, {**options, "copies": list(self.copies)}
