"""The look of the back office. What it shows is apps.backoffice's."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kassa",
    "SITE_HEADER": "Kassa",
    "SITE_SUBHEADER": "Back office",
    "SITE_SYMBOL": "account_balance_wallet",
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "COMMAND": {"search_models": False, "show_history": False},
    "SIDEBAR": {"show_search": True, "show_all_applications": False},
}


def admin_apps(theme: str) -> list[str]:
    """Return the installed apps of a theme: django-unfold, or Django's own admin alone."""
    unfold = ["unfold.apps.BasicAppConfig"] if theme == "unfold" else []
    return [*unfold, "apps.backoffice.apps.KassaAdminConfig"]
