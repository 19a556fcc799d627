"""The staff screens' bases and the one door to the theme. See ADR 0060 to 0063."""

from apps.core.admin_base import cells, lists
from apps.core.admin_base._checks import register as register_checks
from apps.core.admin_base._history import actor_words, people
from apps.core.admin_base._screen import for_staff
from apps.core.admin_base._theme import ThemeSite
from apps.core.admin_base.acts import Act, ActForm, CapabilityMissing, PreviewForm
from apps.core.admin_base.lists import Filter, Keyset
from apps.core.admin_base.pages import Column, Fact, Table, shown, zone_note, zone_of
from apps.core.admin_base.records import RecordAdmin, ReferenceAdmin, StaffAdmin

__all__ = [
    "Act",
    "ActForm",
    "CapabilityMissing",
    "Column",
    "Fact",
    "Filter",
    "Keyset",
    "PreviewForm",
    "RecordAdmin",
    "ReferenceAdmin",
    "StaffAdmin",
    "Table",
    "ThemeSite",
    "actor_words",
    "cells",
    "for_staff",
    "lists",
    "people",
    "register_checks",
    "shown",
    "zone_note",
    "zone_of",
]
