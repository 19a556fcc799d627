import pytest

from apps.payouts.rules import (
    CODES,
    Desk,
    DestinationEffect,
    MoneyEffect,
    Retry,
    handling,
)

M, D = MoneyEffect, DestinationEffect


class TestHandling:
    @pytest.mark.parametrize(
        ("codes", "reject", "returned", "destination"),
        [
            ("AC01 AC03 AC04 R02 R03 R04", M.TO_CUSTOMER, M.TO_CUSTOMER, D.DISABLED),
            ("AC06 AG01 R20 R23", M.TO_CUSTOMER, M.TO_CUSTOMER, D.SUSPENDED),
            ("AG02 AM09 AM10 FF01", M.TO_CUSTOMER, M.TO_CUSTOMER, D.KEPT),
            ("AM04", M.STAYS_RESERVED, M.TO_CUSTOMER, D.KEPT),
            ("AM05 DUPL DU01 DU05 R24", M.NOTHING_MOVES, M.NOTHING_MOVES, D.KEPT),
            ("BE04 RR03", M.TO_CUSTOMER, M.TO_CUSTOMER, D.KEPT),
            ("CNOR RC01", M.TO_CUSTOMER, M.TO_CUSTOMER, D.SUSPENDED),
            ("ED05", M.STAYS_RESERVED, M.TO_CUSTOMER, D.KEPT),
            ("MD07", M.TO_CUSTOMER, M.TO_SUSPENSE, D.DISABLED),
            ("MS02 MS03", M.TO_CUSTOMER, M.TO_CUSTOMER, D.SUSPENDED_SECOND_TIME),
            ("RR04 R16", M.TO_CUSTOMER, M.TO_CUSTOMER, D.SUSPENDED),
            ("TECH TM01 AB05 AB10", M.STAYS_RESERVED, M.TO_CUSTOMER, D.KEPT),
            ("R05 R07 R29", M.TO_CUSTOMER, M.TO_CUSTOMER, D.SUSPENDED),
            ("NARR XX99", M.TO_CUSTOMER, M.TO_SUSPENSE, D.KEPT),
        ],
    )
    def test_follows_the_table(self, codes, reject, returned, destination):
        for code in codes.split():
            row = handling(code)
            assert (row.reject, row.returned, row.destination) == (reject, returned, destination)

    @pytest.mark.parametrize("code", [None, "", "  ", "NARR", "ZZ00"])
    def test_sends_what_nobody_mapped_to_staff(self, code):
        assert handling(code).desk is Desk.STAFF
        assert handling(code).returned is MoneyEffect.TO_SUSPENSE

    def test_reads_a_code_whatever_its_case(self):
        assert handling(" ac04 ") == CODES["AC04"]

    def test_never_offers_a_retry_of_a_duplicate(self):
        duplicates = [row for row in CODES.values() if row.reject is MoneyEffect.NOTHING_MOVES]

        assert {row.retry for row in duplicates} == {Retry.NEVER}
