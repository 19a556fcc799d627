"""How the tables of work rows are stored, as a step of a migration."""

from typing import Any, override

from django.db import migrations
from django.db.migrations.operations.base import Operation

from apps.core.work import STORAGE


class StoreAsWork(migrations.RunSQL):
    """
    Store a table of work rows as a queue: room to update in place, and dead rows gone soon.

    It says what holds now. Where `STORAGE` is changed, the tables that are there by then need a
    migration of their own, which the check W001 asks for.
    """

    def __init__(self, table: str) -> None:
        options = ", ".join(f"{name} = {value}" for name, value in STORAGE.items())
        super().__init__(
            f"ALTER TABLE {table} SET ({options})",
            f"ALTER TABLE {table} RESET ({', '.join(STORAGE)})",
        )

    @override
    def deconstruct(self) -> tuple[str, Any, Any]:
        return Operation.deconstruct(self)
