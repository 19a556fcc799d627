"""What somebody is woken for, or told: rules over the metrics, each with a page of what to do."""

from dataclasses import dataclass
from typing import Final, Literal

_RUNBOOKS: Final = "docs/runbooks"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """
    One rule. `for_` is how long it must hold before anybody is told.

    `series` is an example of what it looks at; at `fires` it fires, and at `silent` it does not,
    both in promtool's notation of a value each minute.
    """

    name: str
    expr: str
    severity: Literal["page", "ticket"]
    summary: str
    runbook: str
    series: str
    fires: str
    silent: str
    for_: str = ""

    @property
    def path(self) -> str:
        """Return where the runbook is."""
        return f"{_RUNBOOKS}/{self.runbook}.md"


# Any exporter says the same of a gauge, so the largest is taken; counters are each machine's own.
ALERTS: Final = (
    Alert(
        name="KassaWorkOverdue",
        expr="max by (kind) (kassa_work_oldest_due_seconds) > 120",
        severity="page",
        summary="Work of {{ $labels.kind }} has been due for {{ $value | humanizeDuration }}.",
        runbook="queue-not-draining",
        series='kassa_work_oldest_due_seconds{kind="core.relay"}',
        fires="121x10",
        silent="120x10",
    ),
    Alert(
        name="KassaWorkQuarantined",
        expr="max by (kind) (kassa_work_quarantined) > 0",
        severity="page",
        summary="{{ $value }} rows of the kind {{ $labels.kind }} wait for a person.",
        runbook="poison-row",
        series='kassa_work_quarantined{kind="core.relay"}',
        fires="1x10",
        silent="0x10",
    ),
    Alert(
        name="KassaInvariantBroken",
        expr="max by (name) (kassa_invariant_violations) > 0",
        severity="page",
        summary="{{ $labels.name }} does not hold. If it is of money, no file of payouts leaves.",
        runbook="invariant-broken",
        series='kassa_invariant_violations{name="ledger_entry_is_whole"}',
        fires="1x10",
        silent="0x10",
    ),
    Alert(
        name="KassaQueueSilent",
        expr="max by (queue) (kassa_queue_heartbeat_age_seconds) > 60",
        # Its supervisor has had its turn.
        for_="1m",
        severity="page",
        summary="Queue {{ $labels.queue }}: no heartbeat for {{ $value | humanizeDuration }}.",
        runbook="queue-not-draining",
        series='kassa_queue_heartbeat_age_seconds{queue="money"}',
        fires="75x10",
        silent="16 75 16 75 16 75 16 75 16 75 16",
    ),
    Alert(
        name="KassaJobLate",
        expr="max by (job) (kassa_job_late) > 0",
        severity="ticket",
        summary="The job {{ $labels.job }} last succeeded more than two of its periods ago.",
        runbook="job-late",
        series='kassa_job_late{job="ledger.seal"}',
        fires="1x10",
        silent="0x10",
    ),
    Alert(
        name="KassaTransactionOld",
        expr="max(kassa_pg_oldest_transaction_seconds) > 60",
        severity="ticket",
        summary="Vacuum waits for a transaction of {{ $value | humanizeDuration }}.",
        runbook="long-transaction",
        series="kassa_pg_oldest_transaction_seconds",
        fires="61x10",
        silent="60x10",
    ),
    Alert(
        name="KassaBrokerRefuses",
        expr="sum by (queue) (increase(kassa_publish_errors_total[5m])) > 0",
        severity="ticket",
        summary="The broker does not take messages for the queue {{ $labels.queue }}.",
        runbook="redis-lost",
        series='kassa_publish_errors_total{queue="events"}',
        fires="0+2x10",
        silent="7x10",
    ),
    Alert(
        name="KassaGaugesUnread",
        expr="max(kassa_gauges_read) < 1 or absent(kassa_gauges_read)",
        for_="1m",
        severity="page",
        summary="No exporter can read Postgres: nothing else here would be told.",
        runbook="exporter-blind",
        series="kassa_gauges_read",
        fires="0x10",
        silent="1x10",
    ),
)
