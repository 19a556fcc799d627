"""The bases themselves: pages by key, cells, and the checks that refuse another kind of screen."""

import base64
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import Act, Keyset, RecordAdmin, cells
from apps.core.admin_base._checks import _faults
from apps.core.admin_base.lists import PAGE_ROWS, count_bounded
from tests.support import ROOT

# Its form would be sent again without what was seen: the act would never be done.
SEES_AND_FORGETS = Act(
    name="odd", capability="x.y", operation=print, label=str, preview=lambda _row, _form: []
)


@pytest.fixture
def organizations(db):
    names = [f"{number % 7}" for number in range(2 * PAGE_ROWS + 13)]
    rows = [Organization(name=name, mode="live", created_at=clock.now()) for name in names]
    return Organization.objects.bulk_create(rows)


class TestPagesByKey:
    @pytest.mark.parametrize("keyset", [Keyset(), Keyset(("name",), descending=False)])
    def test_walk_every_row_once_and_back_again(self, organizations, keyset):
        rows, seen, token = Organization.objects.all(), [], ""
        while True:
            page, before, token = keyset.page(rows, after=token)
            seen += [row.pk for row in page]
            if not token:
                break
        back = [row.pk for row in page]
        while before:
            page, before, _ = keyset.page(rows, before=before)
            back = [row.pk for row in page] + back

        assert sorted(seen) == sorted(row.pk for row in organizations)
        assert len(seen) == len(set(seen))
        assert back == seen

    def test_use_no_offset_and_no_count(self, organizations, django_assert_num_queries):
        with django_assert_num_queries(1) as queries:
            Keyset().page(Organization.objects.all())

        assert "OFFSET" not in queries[0]["sql"]
        assert "COUNT" not in queries[0]["sql"]

    @pytest.mark.parametrize("token", ["", "nonsense", "WyJ4Il0", "Wzk5LCAieCJd", "%%%"])
    def test_show_the_first_page_for_a_key_that_is_not_ours(self, organizations, token):
        page, before, _ = Keyset().page(Organization.objects.all(), after=token)

        assert page[0].pk == max(row.pk for row in organizations)
        assert before == ""

    def test_show_the_first_page_for_half_a_character(self, organizations):
        key = f'["\\ud800","{organizations[0].pk}"]'.encode()
        token = base64.urlsafe_b64encode(key).decode()

        page, before, _ = Keyset(("name",), descending=False).page(
            Organization.objects.all(), after=token
        )

        assert page[0].pk == min(organizations, key=lambda row: (row.name, row.pk)).pk
        assert before == ""

    @pytest.mark.parametrize("keyset", [Keyset(), Keyset(("name",), descending=False)])
    @pytest.mark.parametrize("is_sifted", [False, True])
    def test_lead_back_from_a_page_without_rows(self, organizations, keyset, is_sifted):
        """All that a page would have had moved on meanwhile; its start is on the page before."""
        rows = Organization.objects.all()

        def page(**place):
            return keyset.sifted(rows, Q(), **place) if is_sifted else keyset.page(rows, **place)

        first, _, after = page()
        behind, *_ = page(after=after)
        rows = rows.filter(pk__in=[row.pk for row in first])

        nothing, before, further = page(after=after)
        again, newer, _ = page(before=before)
        nothing_again, further_back, onwards = page(before=keyset._key(first[0]))
        from_the_start, *_ = page(after=onwards)

        assert behind
        assert before
        assert onwards
        assert (nothing, further) == ([], "")
        assert (again, newer) == (first, "")
        assert (nothing_again, further_back) == ([], "")
        assert from_the_start == first

    @pytest.mark.parametrize("is_sifted", [False, True])
    def test_lead_nowhere_from_a_list_without_rows(self, db, is_sifted):
        rows = Organization.objects.all()

        page = Keyset().sifted(rows, Q()) if is_sifted else Keyset().page(rows)

        assert page == ([], "", "")

    def test_count_up_to_a_bound(self, organizations):
        assert count_bounded(Organization.objects.all(), at_most=10) == (10, True)
        assert count_bounded(Organization.objects.all()) == (len(organizations), False)


class TestCells:
    @given(st.text())
    def test_escape_what_they_are_given(self, text):
        for shown in (cells.text(text), cells.code(text), cells.state(text), cells.cut(text)):
            assert "<script" not in shown.lower()

    def test_write_money_with_its_currency_and_a_true_minus(self):
        assert "1,250.00&nbsp;<small>EUR</small>" in cells.amount(125000, "EUR")
        assert "\u22120.05&nbsp;<small>EUR</small>" in cells.amount(-5, "EUR")
        assert ">1,250&nbsp;<small>JPY</small>" in cells.amount(1250, "JPY")

    def test_keep_account_numbers_out_of_free_text_and_references_in(self):
        text = "refund to DE89 3704 0044 0532 0130 00, see RF18539007547034, DE89370400440532013000"

        shown = cells.free_text(text)

        assert "0440532" not in shown
        assert "0044 0532" not in shown
        assert "RF18539007547034" in shown

    @pytest.mark.parametrize("before", ["RF18 5390 0754 7034", "RF18", "INV RF18"])
    def test_keep_an_account_number_out_that_stands_behind_a_reference(self, before):
        shown = cells.free_text(f"{before} DE89 3704 0044 0532 0130 00")

        assert "0044 0532" not in shown
        assert ("5390 0754 7034" in shown) == ("5390" in before)

    @pytest.mark.parametrize(
        "written",
        ["DE89370400440532013000", "de89 3704 0044 0532 0130 00", "x-DE89.3704.0044.0532.0130.00"],
    )
    def test_keep_account_numbers_out_of_whatever_else_they_show(self, written):
        shown = [
            cells.text(written),
            cells.code(written),
            cells.cut(written),
            cells.words([written]),
            cells.link("/there/", written),
            cells.link("/there/", cells.code(written)),
        ]

        for one in shown:
            assert "3000" in one
            assert "0532" not in one
            assert "0440532" not in one

    @pytest.mark.parametrize(
        "text",
        [
            "PO20261127000123",
            "RF18539007547034",
            "AB12CDEF34567890",
            # The end of it is right for Belgium.
            "c0afe379-5681-4b09-be01-290533514277",
        ],
    )
    def test_leave_references_that_only_look_like_one(self, text):
        assert text in cells.text(text)

    def test_cut_a_free_text_after_masking_it_and_say_that_there_is_more(self):
        text = "refund to DE89370400440532013000 as we agreed on the telephone"

        assert ">refund to DE•• •••• 3000…<" in cells.free_text(text, at_most=24)
        assert "on the telephone<" in cells.free_text(text, at_most=100)

    def test_say_of_an_instant_in_utc_that_it_is(self):
        at = datetime(2026, 6, 30, 22, 30, tzinfo=UTC)

        assert "30 Jun 2026 <small>22:30 UTC</small>" in cells.instant(at)
        assert "01 Jul 2026 <small>00:30</small>" in cells.instant(at, zone="Europe/Berlin")

    def test_cut_an_id_in_the_middle_and_copy_it_whole(self):
        text = "po_01jf8g3m9k2n4p6q8r0s2t4v6w"

        shown = cells.cut(text)

        assert f'data-copy="{text}"' in shown
        assert ">po_01j…4v6w" in shown.replace("t4v6w", "4v6w")

    def test_tell_a_state_by_word_and_shape(self):
        shown = cells.state("pending_approval")

        assert "pending approval" in shown
        assert "k-busy" in shown


class TestStyles:
    """Templates put these names together, so that no search for them finds where they are used."""

    CSS = (ROOT / "static" / "kassa" / "backoffice.css").read_text()

    def test_set_sums_of_money_under_each_other(self):
        assert ".k-table .k-end { text-align: right; }" in self.CSS

    @pytest.mark.parametrize("tone", ["flat", *sorted(set(cells._TONES.values()))])
    def test_know_every_tone(self, tone):
        assert f".k-state.k-{tone} " in self.CSS


class TestChecks:
    def test_find_nothing_wrong_with_our_screens(self):
        faults = [
            fault
            for model, screen in admin.site._registry.items()
            for fault in _faults(model._meta.label, screen)
        ]

        assert faults == []

    def test_refuse_another_base(self):
        [fault] = _faults("accounts.Organization", admin.ModelAdmin(Organization, admin.site))

        assert fault.id == "kassa.E010"

    @pytest.mark.parametrize(
        ("names", "id_"),
        [
            ({"list_editable": ("name",)}, "kassa.E011"),
            ({"save_model": lambda *_: None}, "kassa.E012"),
            ({"inlines": (SimpleNamespace,)}, "kassa.E013"),
            ({"actions": ("delete",)}, "kassa.E014"),
            ({"view_capability": ""}, "kassa.E015"),
            ({"list_display": ("name_sealed",)}, "kassa.E016"),
            ({"acts": (SEES_AND_FORGETS,)}, "kassa.E017"),
        ],
    )
    def test_refuse_what_could_write_past_an_operation(self, names, id_):
        kind = type("Odd", (RecordAdmin,), {"view_capability": "x.y", **names})

        found = _faults("accounts.Organization", kind(Organization, admin.site))

        assert [fault.id for fault in found] == [id_]


def test_only_the_door_imports_the_theme():
    importers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "apps").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("from unfold", "import unfold"))
    }

    assert importers == {"apps/core/admin_base/_theme.py"}
