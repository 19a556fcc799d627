"""The OpenAPI document as a judge: whether an answer of the API is one that it promises."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import yaml
from django.conf import settings
from django.test import Client
from jsonschema import Draft202012Validator

LEDGER_TAGS = frozenset(
    {
        "balance-monitors",
        "balance-sheet",
        "balances",
        "fx-transfers",
        "holds",
        "journal-entries",
        "ledger-accounts",
        "periods",
        "postings",
        "transfers",
        "trial-balance",
    }
)
_JSON = "application/json"
# A problem names further members, whatever helps with it.
_OPEN = frozenset({"Problem"})


@cache
def load() -> dict[str, Any]:
    """Return the document; its objects take no other member than they name."""
    text = (settings.BASE_DIR / "docs" / "openapi.yaml").read_text()
    document: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    for name, schema in document["components"]["schemas"].items():
        if name not in _OPEN and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return document


def operations() -> Iterator[dict[str, Any]]:
    """Yield the ledger's operations."""
    for methods in load()["paths"].values():
        yield from (one for one in methods.values() if one["tags"][0] in LEDGER_TAGS)


def faults(schema: dict[str, Any], value: object) -> list[str]:
    """Return what of a value is not as the schema has it."""
    whole = {**deepcopy(schema), "components": load()["components"]}
    return [
        f"{fault.json_path}: {fault.message}"
        for fault in Draft202012Validator(whole).iter_errors(value)
    ]


def operation_of(method: str, path: str) -> dict[str, Any]:
    """Return the operation that a call is of; a path without parameters goes first."""
    for template, methods in sorted(load()["paths"].items(), key=lambda found: "{" in found[0]):
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method in methods:
            operation: dict[str, Any] = methods[method]
            return operation
    raise LookupError(f"The document has no {method} {path}.")


class JudgedClient:
    """A client that holds what it sends and what it gets against the document."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.answered: set[tuple[str, int]] = set()
        self._keys = 0

    def get(self, path: str, *, headers: dict[str, str] | None = None, **query: str) -> Any:
        operation = operation_of("get", path)
        told = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert {re.sub(r"\[\w+\]$", "[key]", name) for name in query} <= told | {"expand[key]"}
        client = Client(headers={"Authorization": f"Bearer {self.token}", **(headers or {})})
        return self._judged(operation, client.get(path, query))

    def delete(self, path: str) -> Any:
        client = Client(headers={"Authorization": f"Bearer {self.token}"})
        return self._judged(operation_of("delete", path), client.delete(path))

    def post(self, path: str, body: dict[str, Any], *, again: bool = False) -> Any:
        operation = operation_of("post", path)
        headers = {"Authorization": f"Bearer {self.token}"}
        if needs_key(operation) or not body.get("dry_run"):
            self._keys += not again
            headers["Idempotency-Key"] = f"key-{self._keys}"
        answer = Client(headers=headers).post(path, body, content_type=_JSON)
        asked = operation["requestBody"]["content"][_JSON]["schema"]
        if answer.status_code < 400:
            assert faults(asked, body) == []
        return self._judged(operation, answer)

    def _judged(self, operation: dict[str, Any], answer: Any) -> Any:
        name, status = operation["operationId"], answer.status_code
        assert str(status) in operation["responses"], (name, status, answer.content)
        told = operation["responses"][str(status)]
        for header in ("ETag", "Idempotent-Replayed"):
            assert header not in answer.headers or header in told["headers"]
        if "content" in told:
            kind = answer.headers["Content-Type"].partition(";")[0]
            found = faults(told["content"][kind]["schema"], answer.json())
            assert found == [], (name, found)
        else:
            assert answer.content == b""
        self.answered.add((name, status))
        return answer


def needs_key(operation: dict[str, Any]) -> bool:
    """Say whether an operation is never answered without an Idempotency-Key."""
    return any(
        parameter["name"] == "Idempotency-Key" and parameter.get("required", False)
        for parameter in operation.get("parameters", ())
    )
