"""The days on which banks do not settle."""

from typing import ClassVar, override

from django.db import models

from apps.core.triggers import append_only


class CalendarDay(models.Model):
    """A day on which T2 is closed, weekends left out; seeded so that the past stays as it was."""

    day = models.DateField(primary_key=True)
    name = models.CharField(max_length=100)
    seeded_at = models.DateTimeField()

    class Meta:
        db_table = "banking_calendar_day"
        triggers: ClassVar = [append_only("calendar_days_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.day}: {self.name}"
