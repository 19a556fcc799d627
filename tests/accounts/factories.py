"""Organizations, keys, customers and staff for the tests of every app, made by the operations."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.test import Client

from apps.accounts import operations
from apps.accounts.models import Contact, Customer, Organization, Staff
from apps.accounts.rules import CustomerDetails
from apps.core import clock
from apps.core.actors import Actor

TESTS = Actor.job("tests")
PASSWORD = "a long enough passphrase"

_counter = itertools.count(1)


def create_organization(*, name: str = "", time_zone: str = "UTC") -> Organization:
    """Create a live organization, with its test twin."""
    return operations.create_organization(
        name=name or f"Organization {next(_counter)}",
        time_zone=time_zone,
        actor=TESTS,
        now=clock.now(),
    )


def create_staff(
    *role_names: str,
    organizations: Iterable[Organization] = (),
    sees_all: bool = True,
) -> Staff:
    """Create a member of staff who holds these roles; the password is `PASSWORD`."""
    number = next(_counter)
    return operations.create_staff(
        email=f"person{number}@kassa.test",
        name=f"Person {number}",
        password=PASSWORD,
        role_names=role_names,
        organization_ids=[organization.id for organization in organizations],
        sees_all_organizations=sees_all,
        actor=TESTS,
        now=clock.now(),
    )


def issue_key(
    organization: Organization, *scopes: str, issued_by: Staff | None = None, **more: Any
) -> operations.IssuedKey:
    """Issue an API key with these scopes, behind which stands a fresh member of staff."""
    return operations.create_api_key(
        organization_id=organization.id,
        name="tests",
        scopes=scopes or ("customers:read",),
        issued_by=(issued_by or create_staff()).id,
        actor=TESTS,
        now=clock.now(),
        **more,
    )


def create_customer(
    organization: Organization,
    *,
    currencies: Sequence[str] = ("EUR",),
    external_id: str | None = None,
    name: str = "Åsa Öberg",
) -> Customer:
    """Create a customer, with what the apps above open for each currency."""
    number = next(_counter)
    return operations.create_customer(
        organization_id=organization.id,
        details=CustomerDetails(
            name=name,
            email=f"customer{number}@example.com",
            external_id=external_id,
            currencies=currencies,
        ),
        idempotency_key=f"customer-{number}",
        actor=TESTS,
        now=clock.now(),
    )


def create_contact(
    organization: Organization, email: str, *purposes: str, name: str = "Lin Okoye"
) -> Contact:
    """Add a contact that is told about these purposes; about technical matters if none is said."""
    return operations.add_contact(
        organization_id=organization.id,
        name=name,
        email=email,
        purposes=purposes or ("technical",),
        idempotency_key=f"contact-{next(_counter)}",
        actor=TESTS,
        now=clock.now(),
    )


class Api:
    """A client of the API: sends JSON with its key, and a fresh Idempotency-Key on each POST."""

    def __init__(self, organization: Organization, *scopes: str, **more: Any) -> None:
        self.organization = organization
        issued = issue_key(organization, *scopes, **more)
        self.key, self.token = issued.key, issued.token
        self.client = Client()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=self.headers(headers))

    def post(self, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> Any:
        fresh = key or f"key-{next(_counter)}"
        return self.send("POST", path, body, **{"Idempotency-Key": fresh, **headers})

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def send(self, method: str, path: str, body: Any, **headers: str) -> Any:
        """Send a body: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        return self.client.generic(
            method,
            path,
            raw,
            content_type=headers.pop("Content-Type", "application/json"),
            headers=self.headers(headers),
        )

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **more}
