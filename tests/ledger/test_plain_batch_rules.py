"""What `post_plainly` lets through is what the engine posts, line by line; and nothing else is."""

from copy import deepcopy
from dataclasses import replace
from itertools import permutations
from uuid import UUID

from hypothesis import event, given
from hypothesis import strategies as st

from apps.ledger.rules import (
    CLOCK_SKEW,
    COUNTER_MAX,
    BalanceState,
    State,
    Transfer,
    apply,
    post_plainly,
)
from tests.ledger.factories import NOW
from tests.ledger.pure import fresh
from tests.ledger.test_plain_rules import accounts

IDS = [UUID(int=number) for number in range(1, 5)]
PAIRS = list(permutations(IDS[:3], 2))


@st.composite
def usual_accounts(draw, id_: UUID) -> BalanceState:
    """One that mostly has room for what a few transfers move."""
    state = draw(accounts(id_, usual=60))
    if draw(st.integers(0, 9)):
        state.posted_debits %= COUNTER_MAX - 40
        state.posted_credits %= COUNTER_MAX - 40
        state.min_available_minor = draw(
            st.none() | st.integers(0, 90).map(lambda below: state.available - below)
        )
    return state


def has_room(one: BalanceState) -> bool:
    return (
        max(one.posted_debits + one.pending_debits, one.posted_credits + one.pending_credits)
        <= COUNTER_MAX
    )


@given(
    # The last one is none.
    states=st.tuples(*(usual_accounts(id_) for id_ in IDS[:3])),
    asked=st.lists(
        st.tuples(
            st.sampled_from(PAIRS * 10 + [(IDS[0], IDS[0]), (IDS[0], IDS[3])]),
            st.integers(1, 15), st.sampled_from(["EUR"] * 60 + ["USD"]),
        ),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_a_series_is_posted_plainly_iff_the_engine_posts_each_without_more_ado(states, asked):
    named = {id_ for pair, *_ in asked for id_ in pair}
    balances = {state.id: state for state in states if state.id in named}
    commands = [Transfer(fresh(), *pair, *terms) for pair, *terms in asked]
    after, outcomes = apply(State(deepcopy(balances), now=NOW, reach_internal=False), commands)
    seen = [one.latest_effective_at or NOW for one in balances.values()]
    is_plain = (
        all(outcome.status == "posted" for outcome in outcomes)
        and not any(one.monitored for one in balances.values())
        and max([NOW, *seen]) <= NOW + CLOCK_SKEW
        # The engine looks at the side that it moves; that another one is past its end never is.
        and all(has_room(one) for one in balances.values())
    )
    before = {id_.int: deepcopy(one) for id_, one in balances.items()}

    posted = post_plainly({id_.int: one for id_, one in balances.items()}, commands, now=NOW)

    event(f"plain: {is_plain}, {min(len(commands), 3)} or more")
    assert {id_.int: one for id_, one in balances.items()} == before
    assert (posted is not None) == is_plain
    if posted is None:
        return
    lines = [line for outcome in outcomes for line in outcome.lines]
    assert posted.at == max([NOW, *seen])
    assert list(
        zip(posted.accounts, posted.amounts, posted.versions, posted.balances_after, strict=True)
    ) == [(line[0], line[1], line[3], line[4]) for line in lines]
    assert [one.id for one in posted.changed] == list(dict.fromkeys(line[0] for line in lines))
    # A batch has one time: an account that nobody has seen later has it, too.
    assert posted.changed == [
        replace(after.balances[one.id], latest_effective_at=posted.at) for one in posted.changed
    ]
    last = {line[0]: line for line in lines}
    assert posted.balances == tuple((id_, line[3], line[4], line[5]) for id_, line in last.items())
