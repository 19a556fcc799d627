import pytest

from apps.payouts.rules import IbanRefusedError, address_fault, bic_agrees, read_iban


class TestReadIban:
    @pytest.mark.parametrize(
        "text",
        ["DE89370400440532013000", "de89 3704 0044 0532 0130 00", " DE89370400440532013000 "],
    )
    def test_returns_the_electronic_form(self, text):
        assert read_iban(text) == "DE89370400440532013000"

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("XX89370400440532013000", "country"),
            ("DE8937040044053201300", "length"),
            ("DE89370400440532O1300X", "characters"),
            ("DE89-3704", "characters"),
            ("ß", "characters"),
            ("", "characters"),
            ("DE88370400440532013000", "checksum"),
            ("BE41539007547035", "national_checksum"),
        ],
    )
    def test_names_what_is_wrong(self, text, cause):
        with pytest.raises(IbanRefusedError) as refused:
            read_iban(text)

        assert refused.value.cause == cause


class TestBicAgrees:
    def test_a_bic_of_that_bank_does_whatever_its_branch(self):
        assert bic_agrees(iban="DE89370400440532013000", bic="COBADEFFXXX")

    @pytest.mark.parametrize("bic", ["DEUTDEFF", "COBAFRPP", "nonsense"])
    def test_another_bank_or_country_does_not(self, bic):
        assert not bic_agrees(iban="DE89370400440532013000", bic=bic)


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "fault"),
        [
            ({"town": "Berlin", "country": "DE"}, None),
            ({"town": "Berlin", "country": "DE", "lines": ["Weg 1", "Hof"]}, None),
            ({"lines": ["Weg 1", "10115 Berlin"]}, "town_and_country_needed"),
            ({"town": "Berlin", "country": "DE", "lines": ["a", "b", "c"]}, "too_many_lines"),
            ({"town": "Berlin", "country": "DE", "lines": ["a" * 71]}, "line_too_long"),
        ],
    )
    def test_needs_town_and_country_and_at_most_two_lines(self, address, fault):
        assert address_fault(address) == fault
