"""Balance monitors in the engine's machine, and when one tells of a balance, said plainly."""

from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.ledger import operations
from apps.ledger.models import BalanceMonitor
from apps.ledger.operations import MonitorTerms
from apps.ledger.rules import MonitorDirection, MonitorMeasure
from tests.ledger import wishes
from tests.ledger.factories import ACTOR
from tests.ledger.outcomes import outcome_of
from tests.ledger.wishes import drawn

MONITORS_MAX = 20
# Of a threshold from what stands: one that is far away is seldom crossed.
NEAR = (-100, -30, -1, 0, 1, 30, 100)


@dataclass
class Watched:
    """A monitor as it was asked for, and every balance that it has to have told of."""

    account_id: UUID
    measure: str
    direction: str
    threshold: int
    is_beyond: bool = False
    is_active: bool = True
    told: list[int] = field(default_factory=list)

    def look(self, stands: tuple[int, int, int]) -> None:
        """It tells as a balance goes beyond the threshold, and not again until it was back."""
        _, posted, available = stands
        value = available if self.measure == "available" else posted
        beyond = value < self.threshold if self.direction == "below" else value > self.threshold
        if beyond and not self.is_beyond:
            self.told.append(value)
        self.is_beyond = beyond


class MonitorRules:
    """Part of a machine with an organisation, its books, a clock and keys."""

    @rule(
        place=st.sampled_from(range(len(wishes.SPECS))),
        wanted=st.lists(
            st.tuples(
                st.sampled_from(["available", "posted"]),
                st.sampled_from(["below", "above"]),
                st.sampled_from(NEAR),
            ),
            min_size=1,
            max_size=3,
        ),
        moves=st.lists(drawn(wishes.transfer), max_size=3),
    )
    def watch(self, place, wanted, moves):
        # On which side of a threshold it stands is decided by the clock.
        self.release(self.over({self.ids[place]}))
        stands = self.books._stands(self.books.accounts[self.ids[place]])
        for measure, direction, away in wanted:
            threshold = stands[2 if measure == "available" else 1] + away
            watched = Watched(self.ids[place], measure, direction, threshold)
            is_full = len(self.active(watched.account_id)) == MONITORS_MAX
            create = partial(operations.create_monitor, **self.asked_to_watch(watched))
            answer, again = outcome_of(create), outcome_of(create)
            if is_full:
                self.agree(["too_many_balance_monitors"] * 2, [answer.code, again.code])
            else:
                assert again == answer
                # What is beyond already tells nothing.
                watched.look(stands)
                watched.told.clear()
                self.monitors[answer] = watched
        self.compare()
        # Some of it is the account's, and a threshold is near: so some are crossed.
        for wish in moves:
            self.run(self.commands([wish]), atomic=False)

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def call_off_monitor(self, data):
        monitor = data.draw(st.sampled_from(self.active()))
        for _ in range(2):
            operations.deactivate_monitor(
                organization_id=self.organization, monitor_id=monitor, actor=ACTOR,
                now=self.core.now,
            )  # fmt: skip
        self.monitors[monitor].is_active = False
        self.compare()

    # --- How ------------------------------------------------------------------------------------

    def asked_to_watch(self, watched) -> dict:
        return {
            "organization_id": self.organization,
            "terms": MonitorTerms(
                account_id=watched.account_id,
                measure=MonitorMeasure(watched.measure),
                direction=MonitorDirection(watched.direction),
                threshold_minor=watched.threshold,
            ),
            "idempotency_key": str(next(self.keys)),
            "actor": ACTOR,
            "now": self.core.now,
        }

    def active(self, account_id=None) -> list[UUID]:
        return [
            id_
            for id_, watched in self.monitors.items()
            if watched.is_active and account_id in {None, watched.account_id}
        ]

    def see(self, after) -> None:
        """Show the monitors what stands on these accounts right after a command."""
        for id_ in self.active():
            watched = self.monitors[id_]
            if watched.account_id in after:
                watched.look(after[watched.account_id])

    def compare_monitors(self) -> None:
        rows = BalanceMonitor.objects.filter(organization_id=self.organization)
        self.agree(
            {
                id_: (watched.is_active, watched.is_beyond, len(watched.told))
                for id_, watched in self.monitors.items()
            },
            {row.id: (row.is_active, row.is_beyond, row.triggered) for row in rows},
        )

    def check_told(self) -> None:
        """Each told of the balances that it had to, in their order."""
        events = OutboxEvent.objects.filter(
            organization_id=self.organization, type="balance_monitor.triggered"
        )
        told: dict[str, list[tuple[int, int]]] = {}
        for event in events.order_by("aggregate_id", "sequence"):
            told.setdefault(event.aggregate_id, []).append((event.sequence, event.data["balance"]))
        self.agree(
            {
                encode_id("bm", id_): list(enumerate(watched.told, 1))
                for id_, watched in self.monitors.items()
                if watched.told
            },
            told,
        )
