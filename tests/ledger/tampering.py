"""Changes past the guards, as only a superuser can make them, and what is found of them."""

import pytest
from django.core.management import call_command
from django.db import connection


def corrupt(statement: str, *values: object) -> None:
    """Change the books as only a superuser can, past the guards."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, list(values))
        cursor.execute("SET session_replication_role = DEFAULT")


def faults(capsys, **options) -> str:
    with pytest.raises(SystemExit) as ended:
        call_command("verify_ledger", quiet=True, **options)
    assert ended.value.code == 1
    return capsys.readouterr().out
