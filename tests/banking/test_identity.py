from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats.identity import line_identity, occurrences
from apps.banking.formats.values import BankCode, Counterparty, Line, LineDetail, References

DETAIL = LineDetail(
    position=1,
    amount_minor=350,
    references=References(end_to_end_id="E2E"),
    counterparty=Counterparty(name="Ada", account="FI2112345600000785"),
    texts=("coffee",),
)
LINE = Line(
    position=1,
    amount_minor=350,
    currency="EUR",
    booking_date=date(2026, 3, 2),
    value_date=date(2026, 3, 2),
    account_servicer_ref="REF",
    bank_code=BankCode(domain="PMNT"),
    text="a text",
    details=(DETAIL,),
)


class TestIdentity:
    def test_ignores_place_and_entry_reference(self):
        moved = replace(LINE, position=9, source_line=4, entry_ref="17")

        assert line_identity("A", moved) == line_identity("A", LINE)

    def test_changes_with_every_fact(self):
        others = [
            replace(LINE, booking_date=date(2026, 3, 3)),
            replace(LINE, value_date=None),
            replace(LINE, amount_minor=-350),
            replace(LINE, currency="SEK"),
            replace(LINE, account_servicer_ref=None),
            replace(LINE, bank_code=BankCode(domain="CAMT")),
            replace(LINE, text="a  text"),
            replace(LINE, details=()),
            replace(LINE, details=(replace(DETAIL, texts=("tea",)),)),
            replace(LINE, details=(replace(DETAIL, references=References()),)),
            replace(LINE, details=(replace(DETAIL, counterparty=Counterparty(name="Bo")),)),
        ]

        identities = {line_identity("A", line) for line in [LINE, *others]}

        assert len(identities) == len(others) + 1
        assert line_identity("B", LINE) not in identities


class TestOccurrences:
    def test_count_equals_and_drop_none(self):
        assert occurrences([b"a", b"b", b"a", b"a"]) == [1, 1, 2, 3]

    def test_go_on_where_the_chain_goes_on(self):
        assert occurrences([b"a", b"b"], already={b"a": 2}) == [3, 1]

    @given(st.lists(st.sampled_from([b"a", b"b", b"c"])))
    def test_are_unique_with_their_identity(self, identities):
        pairs = list(zip(identities, occurrences(identities), strict=True))

        assert len(set(pairs)) == len(pairs)
