"""Constraints that keep tenants apart: the composite key and the composite foreign key."""

from collections.abc import Sequence
from typing import Any, Self, override

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
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

    def __init__(self, *, name: str, field: str) -> None:
        super().__init__(name=name)
        self.field = field

    @override
    def constraint_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> None:
        self.create_sql(model, schema_editor)

    @override
    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> None:
        # At the end of the migration, when every table and the target's OwnedKey are there.
        field = model._meta.get_field(self.field)
        target = field.related_model
        quote = schema_editor.quote_name
        statement = Statement(
            "ALTER TABLE %(table)s ADD CONSTRAINT %(name)s"
            " FOREIGN KEY (organization_id, %(column)s)"
            " REFERENCES %(target)s (organization_id, id)",
            table=quote(model._meta.db_table),
            name=quote(self.name),
            column=quote(field.column),  # type: ignore[union-attr]  # a relation with a column
            target=quote(target._meta.db_table),  # type: ignore[union-attr]  # resolved by now
        )
        schema_editor.deferred_sql.append(statement)

    @override
    def remove_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> Statement:
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
        return type(self)(name=self.name, field=self.field)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SameOrganization):
            return NotImplemented
        return (self.name, self.field) == (other.name, other.field)

    @override
    def __hash__(self) -> int:
        return hash((self.name, self.field))


class TiedCopy(SameOrganization):
    """
    A composite foreign key that carries copies of the target's columns, so a CHECK can see them.

    FOREIGN KEY (organization_id, field, copies…) REFERENCES target (organization_id, id, copies…).
    The target declares a unique constraint over exactly those fields.
    """

    def __init__(self, *, name: str, field: str, copies: Sequence[str], **_: object) -> None:
        super().__init__(name=name, field=field)
        self.copies = tuple(copies)

    @override
    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> Statement:
        field = model._meta.get_field(self.field)
        target = field.related_model
        quote = schema_editor.quote_name
        return Statement(
            "ALTER TABLE %(table)s ADD CONSTRAINT %(name)s"
            " FOREIGN KEY (organization_id, %(column)s, %(copies)s)"
            " REFERENCES %(target)s (organization_id, id, %(copied)s)",
            table=quote(model._meta.db_table),
            name=quote(self.name),
            column=quote(field.column),  # type: ignore[union-attr]  # a relation with a column
            copies=", ".join(quote(model._meta.get_field(c).column) for c in self.copies),  # type: ignore[union-attr]  # columns
            target=quote(target._meta.db_table),  # type: ignore[union-attr]  # resolved by now
            copied=", ".join(quote(target._meta.get_field(c).column) for c in self.copies),  # type: ignore[union-attr]  # columns
        )

    @override
    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        path, arguments, options = super().deconstruct()
        return path, arguments, {**options, "copies": list(self.copies)}

    @override
    def clone(self) -> Self:
        return type(self)(name=self.name, field=self.field, copies=self.copies)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, TiedCopy) and (self.name, self.field, self.copies) == (
            other.name,
            other.field,
            other.copies,
        )

    @override
    def __hash__(self) -> int:
        return hash((self.name, self.field, self.copies))
