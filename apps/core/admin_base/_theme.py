"""
The one door to the theme: django-unfold where it is installed, Django's own admin where it is not.

`KASSA_ADMIN_THEME` decides in the settings which of the two is among the installed apps; every
screen is made of our own templates and works under both (ADR 0060).
"""

from typing import TYPE_CHECKING

from django.apps import apps

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite as ThemeSite
    from django.contrib.admin import ModelAdmin as ThemeModelAdmin
elif apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin as ThemeModelAdmin
    from unfold.sites import UnfoldAdminSite as ThemeSite
else:
    from django.contrib.admin import AdminSite as ThemeSite
    from django.contrib.admin import ModelAdmin as ThemeModelAdmin

__all__ = ["ThemeModelAdmin", "ThemeSite"]
