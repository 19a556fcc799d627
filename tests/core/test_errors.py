"""Refusals: each code declared once, in a place where people look for it."""

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import pytest
from django.apps import apps

from apps.core import errors
from apps.core.errors import Refusal, refusal_classes


def declared() -> Iterator[type[Refusal]]:
    """Yield every class of the project that gives a code of its own."""
    for config in apps.get_app_configs():
        for module in ("errors", "operations", "api.urls", "admin"):
            if config.name.startswith("apps.") and find_spec(config.name) is not None:
                _import_if_there(f"{config.name}.{module}")
    todo: list[type[Refusal]] = [Refusal]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if "code" in vars(kind) and kind.__module__.startswith("apps."):
            yield kind


def _import_if_there(name: str) -> None:
    parent, _, _ = name.rpartition(".")
    if find_spec(parent) is not None and find_spec(name) is not None:
        import_module(name)


class TestCodes:
    def test_are_declared_once(self):
        seen: dict[str, list[str]] = {}
        for kind in set(declared()):
            seen.setdefault(kind.code, []).append(f"{kind.__module__}.{kind.__qualname__}")

        assert {code: kinds for code, kinds in seen.items() if len(kinds) > 1} == {}

    def test_are_words_in_lower_case(self):
        assert [
            k.code for k in declared() if not re.fullmatch(r"[a-z][a-z0-9_]{2,63}", k.code)
        ] == []

    def test_of_an_app_stand_in_its_errors(self):
        strays = {
            kind.__module__
            for kind in declared()
            if not kind.__module__.startswith("apps.core.")
            and not kind.__module__.endswith(".errors")
        }

        assert strays == set()

    @pytest.mark.parametrize(
        "kind",
        [
            errors.InvalidInput,
            errors.NotFound,
            errors.StateConflict,
            errors.RuleViolation,
            errors.TooOften,
        ],
    )
    def test_of_a_general_class_lead_to_that_class(self, kind):
        assert refusal_classes()[kind.code] is kind


class TestRefusal:
    def test_keeps_its_message_and_details(self):
        refusal = errors.RuleViolation("No.", amount=3)

        assert (refusal.message, refusal.details, str(refusal)) == ("No.", {"amount": 3}, "No.")

    def test_is_no_fault_of_ours(self):
        assert not issubclass(errors.InvariantBroken, Refusal)
        assert not issubclass(errors.OutsideCallError, Refusal)

    def test_keeps_the_other_sides_code_as_sent(self):
        assert errors.Declined("No.", code="AC04").code == "AC04"
