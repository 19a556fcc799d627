"""Staff screens of webhooks: endpoints, deliveries, every attempt; and the inbox."""

from apps.webhooks.admin import _deliveries, _endpoints, _inbox

__all__ = ["_deliveries", "_endpoints", "_inbox"]
