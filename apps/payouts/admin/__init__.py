"""Staff screens of payouts: money on its way out, the batches it leaves in, and where it goes."""

from apps.payouts.admin import _batches, _destinations, _payouts

__all__ = ["_batches", "_destinations", "_payouts"]
