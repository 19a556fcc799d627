"""Changes of the schema that a migration makes together, for which Django renders models once."""

from collections.abc import Iterable
from typing import Any, override

from django.db.migrations import operations as djangos
from django.db.migrations.operations.base import Operation
from pgtrigger.migrations import AddTrigger, RemoveTrigger

# What each needs is said by the models before all of them and after all of them, as they are
# grouped below. An `AlterField` is not among these: what it does depends on what else there is of
# its field in between.
KINDS = (
    djangos.CreateModel,
    djangos.AddField,
    djangos.AddIndex,
    djangos.RemoveIndex,
    djangos.AddConstraint,
    djangos.RemoveConstraint,
    AddTrigger,
    RemoveTrigger,
)


class Together(Operation):
    """
    Operations in their order, as if each stood by itself: the same statements, forwards and back.

    Between two operations Django renders each model anew that has to do with the one that changed,
    which here are all, since all have to do with organizations. These render them once.
    """

    serialization_expand_args = ["operations"]

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = list(operations)

    @override
    def state_forwards(self, app_label: str, state: Any) -> None:
        # What is rendered would be rendered anew after each; so it is once when it is looked at.
        if "apps" in vars(state):
            del state.apps
        for operation in self.operations:
            operation.state_forwards(app_label, state)

    @override
    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        for operation in self.operations:
            operation.database_forwards(app_label, schema_editor, from_state, to_state)

    @override
    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        for operation in reversed(self.operations):
            operation.database_backwards(app_label, schema_editor, from_state, to_state)

    @override
    def deconstruct(self) -> tuple[str, Any, Any]:
        return type(self).__qualname__, [self.operations], {}

    @override
    def describe(self) -> str:
        return "; ".join(operation.describe() for operation in self.operations)


def together(operations: Iterable[Operation]) -> list[Operation]:
    """
    Return the operations of a migration with those grouped that may be.

    What a table is created with is all that its model has at the end of its group, so what is
    added to a model begins a group after the one that creates it. A constraint may name a field
    that is added right before it, and is made or taken back by the models on one side of its group
    alone (one that is not valid yet, one with a condition): it begins a group after such a field.
    """
    groups: list[list[Operation]] = []
    created, widened, is_alone = set[str](), set[str](), True
    for operation in listed(operations):
        if not isinstance(operation, KINDS):
            groups.append([operation])
            is_alone = True
            continue
        model = getattr(operation, "model_name", "").lower()
        is_of_field = isinstance(operation, djangos.AddConstraint) and model in widened
        if is_alone or model in created or is_of_field:
            groups.append([])
            created, widened, is_alone = set(), set(), False
        groups[-1].append(operation)
        if isinstance(operation, djangos.CreateModel):
            created.add(operation.name.lower())
        if isinstance(operation, djangos.AddField):
            widened.add(model)
    return [group[0] if len(group) == 1 else Together(group) for group in groups]


def listed(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations of a migration as they stood before some were grouped."""
    return [
        part
        for operation in operations
        for part in (operation.operations if isinstance(operation, Together) else [operation])
    ]
