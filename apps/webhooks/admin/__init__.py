"""Staff screens of webhooks: endpoints and how they answer, deliveries and every attempt."""

from apps.webhooks.admin import _deliveries, _endpoints

__all__ = ["_deliveries", "_endpoints"]
