"""What payouts hears from below: callbacks that apps.approvals and apps.banking call."""

from apps.banking import registry as banking
from apps.payouts import operations


def register() -> None:
    """Register what people may be asked about, and who reads the bank's status reports."""
    operations.register_send_act()
    operations.register_release_act()
    banking.register_report_reader(operations.apply_status_report)
