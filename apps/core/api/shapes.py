"""The shape of a request or an answer: the fields it has, and no others."""

from collections.abc import Mapping
from functools import cache
from typing import Any, override

from django.utils.functional import cached_property
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict


class StrictSerializer(serializers.Serializer[Any]):
    # A request's or an answer's shape; a field it does not know is refused, with its pointer. No
    # docstring: the shapes that derive from this one would inherit it in the OpenAPI document.

    @cached_property
    @override
    def fields(self) -> Any:
        # Copying every field for every request took longer than all else a view does. Fields keep
        # nothing of a request, so one set serves all; only a context or a part is of one's own.
        if self._context or self.partial:
            return _bind(self)
        return _shared_fields(type(self))

    @override
    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [key for key in data if key not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {key: ["This field is unknown."] for key in unknown}, code="unknown_field"
                )
        return super().to_internal_value(data)


def _bind(serializer: StrictSerializer) -> BindingDict:
    bound = BindingDict(serializer)
    for name, field in serializer.get_fields().items():
        bound[name] = field
    return bound


@cache
def _shared_fields(kind: type[StrictSerializer]) -> BindingDict:
    return _bind(kind())
