"""The look of the back office. What it shows is apps.backoffice's."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kassa",
    "SITE_HEADER": "Kassa",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "COMMAND": {"search_models": False, "show_history": False},
}
