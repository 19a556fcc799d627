import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.approvals.rules import (
    Band,
    Extra,
    Facts,
    Policy,
    Step,
    people_missing,
    policy_fault,
    policy_from_json,
    policy_to_json,
    required_steps,
    snapshot_digest,
    steps_met,
)

FA = "finance_approver"
ONE, TWO = (Step(FA, 1),), (Step(FA, 2),)
SEND = Policy(
    bands={"EUR": (Band(100_000, ()), Band(5_000_000, ONE), Band(None, TWO))},
    otherwise=TWO,
    extras=(Extra({"risk": "review"}, ONE),),
)


class TestRequiredSteps:
    @pytest.mark.parametrize(
        ("amount", "currency", "risk", "expected"),
        [
            (100_000, "EUR", "approve", ()),
            (100_001, "EUR", "approve", ONE),
            (5_000_000, "EUR", "approve", ONE),
            (5_000_001, "EUR", "approve", TWO),
            (1, "SEK", "approve", TWO),
            (1, "EUR", "review", ONE),
            (5_000_001, "EUR", "review", TWO),
        ],
    )
    def test_is_the_band_raised_by_what_applies(self, amount, currency, risk, expected):
        facts = Facts(amount_minor=amount, currency=currency, conditions={"risk": risk})

        assert required_steps(policy=SEND, facts=facts) == expected

    def test_an_act_without_an_amount_asks_for_the_rest(self):
        assert required_steps(policy=SEND, facts=Facts()) == TWO

    def test_keeps_apart_what_different_roles_may_fill(self):
        either, one = Step("a", 1, ("b",)), Step("a", 2)
        policy = Policy(otherwise=(either,), extras=(Extra({"risk": "review"}, (one, either)),))

        asked = required_steps(policy=policy, facts=Facts(conditions={"risk": "review"}))

        assert asked == (one, either)

    @given(st.integers(1, 10**13), st.integers(1, 10**13))
    def test_more_money_never_needs_fewer_people(self, one, other):
        def people(amount):
            steps = required_steps(policy=SEND, facts=Facts(amount_minor=amount, currency="EUR"))
            return sum(step.count for step in steps)

        assert people(min(one, other)) <= people(max(one, other))


class TestStepsMet:
    def test_counts_each_person_once(self):
        steps = (Step("a", 1), Step("b", 1))

        assert not steps_met(steps=steps, approvers={"eva": frozenset("ab")})
        assert people_missing(steps=steps, approvers={"eva": frozenset("ab")}) == 1

    def test_moves_someone_with_two_roles_to_the_seat_that_is_left(self):
        steps = (Step("a", 1), Step("b", 1))
        approvers = {"eva": frozenset("ab"), "ole": frozenset("a")}

        assert steps_met(steps=steps, approvers=approvers)
        assert people_missing(steps=steps, approvers=approvers) == 0

    def test_a_person_without_the_role_fills_nothing(self):
        assert people_missing(steps=TWO, approvers={"eva": frozenset({"support"})}) == 2

    def test_a_step_of_several_roles_is_filled_by_any_of_them(self):
        steps = (Step("a", 1, ("b",)), Step("a", 1))

        for held, missing in (("b", 1), ("a", 1), ("c", 2)):
            assert people_missing(steps=steps, approvers={"eva": frozenset(held)}) == missing
        # Whoever has the one role that the other step wants is moved there.
        approvers = {"eva": frozenset("a"), "ole": frozenset("b")}
        assert steps_met(steps=steps, approvers=approvers)

    @given(
        steps=st.lists(
            st.builds(
                Step,
                st.sampled_from("abc"),
                st.integers(1, 2),
                st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
            ),
            max_size=3,
            unique_by=lambda s: s.role,
        ),
        roles=st.lists(st.frozensets(st.sampled_from("abc")), max_size=5),
    )
    def test_is_met_exactly_when_nobody_is_missing(self, steps, roles):
        approvers = {f"p{i}": held for i, held in enumerate(roles)}

        met = steps_met(steps=steps, approvers=approvers)

        assert met == (people_missing(steps=steps, approvers=approvers) == 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


plain_values = st.none() | st.booleans() | st.integers() | st.text()


class TestSnapshot:
    def test_is_the_hash_of_one_text(self):
        assert snapshot_digest({"a": 1}).hex() == (
            "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
        )

    @given(st.dictionaries(st.text(), json_values, max_size=5))
    def test_does_not_depend_on_the_order_of_keys(self, snapshot):
        turned = dict(reversed(list(snapshot.items())))

        assert snapshot_digest(turned) == snapshot_digest(snapshot)

    @given(st.dictionaries(st.text(), plain_values, max_size=3), st.text(), plain_values)
    def test_changes_with_any_value(self, snapshot, key, value):
        changed = {**snapshot, key: value}

        # JSON's true is not the number 1, though Python takes them for equal.
        same = repr(sorted(changed.items())) == repr(sorted(snapshot.items()))
        assert (snapshot_digest(changed) == snapshot_digest(snapshot)) == same

    @pytest.mark.parametrize("value", [1.0, {"x": object()}, {"deep": [{"er": 0.1}]}])
    def test_refuses_what_has_no_exact_form(self, value):
        with pytest.raises(TypeError):
            snapshot_digest({"value": value})


class TestPolicyJson:
    def test_reads_what_it_wrote(self):
        assert policy_from_json(policy_to_json(SEND)) == SEND

    def test_reads_steps_of_several_roles_and_those_from_before(self):
        either = Policy(otherwise=(Step("a", 1, ("b", "c")), Step("d", 2)))

        stored = policy_to_json(either)

        assert stored["otherwise"] == [
            {"role": "a", "count": 1, "or": ["b", "c"]},
            {"role": "d", "count": 2},
        ]
        assert policy_from_json(stored) == either

    @pytest.mark.parametrize(
        ("policy", "fault"),
        [
            (SEND, None),
            (Policy(otherwise=(Step(FA, 6),)), "count_out_of_range"),
            (Policy(bands={"EUR": (Band(None, ()), Band(5, ONE))}), "bands_out_of_order"),
            (Policy(bands={"EUR": (Band(5, ()), Band(5, ONE))}), "bands_out_of_order"),
        ],
    )
    def test_a_policy_that_says_two_things_is_named(self, policy, fault):
        assert policy_fault(policy) == fault
