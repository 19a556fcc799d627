"""manage.py load_demo: the demo organisation, once; and how to sign in and call the API."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any, override

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.accounts import queries
from apps.backoffice import operations
from apps.backoffice.management.story import demo
from apps.core import clock


class Command(BaseCommand):
    help = "Load the demo organisation where it is not there yet; print logins and a curl line."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--base-url", default="http://localhost:8000")

    @override
    def handle(self, *, base_url: str, **_: object) -> None:
        notes = Path(settings.VAR_DIR) / "demo.json"
        made = self._read(notes)
        if made is None:
            if queries.find_live_organization(name=demo.NAME) is not None:
                raise CommandError(
                    f"{demo.NAME} is in the database, but {notes.name} is not: its key and"
                    " passwords are known to nobody. `make reset` begins anew."
                )
            built = demo.build(now=clock.now())
            made = json.loads(json.dumps(asdict(built), default=str))
            # The home page is to show something at the first look, before any job has run.
            operations.roll_up(organization_id=built.organization_id, now=clock.now())
            operations.check_invariants(now=clock.now())
            notes.touch(mode=0o600)
            notes.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        self.stdout.write(self._text(made, base_url))

    def _read(self, notes: Path) -> dict[str, Any] | None:
        """Return what an earlier load wrote down, if its organisation is still there."""
        if not notes.exists() or queries.find_live_organization(name=demo.NAME) is None:
            return None
        found: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        return found

    def _text(self, made: dict[str, Any], base_url: str) -> str:
        body = json.dumps(
            {
                "debit_account": made["debit_account"],
                "credit_account": made["credit_account"],
                "amount": 100,
                "currency": "EUR",
            }
        )
        return "\n".join(
            [
                f"Sign in as {', '.join(made['logins'])}",
                f"with the password {made['password']}",
                "",
                "Move 1.00 EUR between two customers (again with the same key: nothing moves):",
                f"  curl -s {base_url}/v1/transfers -H 'Authorization: Bearer {made['token']}' \\",
                "    -H 'Idempotency-Key: first' -H 'Content-Type: application/json' \\",
                f"    -d '{body}'",
            ]
        )
