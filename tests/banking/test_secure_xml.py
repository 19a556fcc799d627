import resource
import socket
from pathlib import Path

import pytest

from apps.banking.formats.problems import UnreadableFile
from apps.banking.formats.reading import read_bank_file
from tests.banking.statements import Entry, Made, camt053

BODY = camt053(Made(entries=(Entry(amount=100),))).split(b"\n", 1)[1]


def refused(data, name="evil.xml"):
    with pytest.raises(UnreadableFile) as refusal:
        read_bank_file(data, name=name)
    return refusal.value.problem


class TestADoctype:
    def test_of_a_billion_laughs_is_refused_with_flat_memory(self):
        levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
        bomb = f'<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY l0 "ha">{levels}]>\n'.encode()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        problem = refused(bomb + BODY.replace(b"STMT-1", b"&l11;"))

        assert (problem.code, problem.file, problem.line) == ("doctype_refused", "evil.xml", 2)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000

    @pytest.mark.parametrize("target", ["file:///etc/hostname", "http://127.0.0.1:{port}/x"])
    def test_with_an_external_entity_reads_no_file_and_asks_nobody(self, target):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.settimeout(0.05)
            url = target.format(port=listener.getsockname()[1])
            attack = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]>'.encode()

            problem = refused(attack + BODY.replace(b"STMT-1", b"&e;"))

            with pytest.raises(TimeoutError):
                listener.accept()
        assert problem.code == "doctype_refused"

    @pytest.mark.parametrize(
        "prolog",
        [
            b"<!doctype x>",
            b"<!-- <a> --><!DOCTYPE x>",
            b"<?pi <a ?>\n \t<!DOCTYPE x SYSTEM 'x.dtd'>",
            b"\xef\xbb\xbf<!DOCTYPE x>",
        ],
    )
    def test_is_found_wherever_it_stands(self, prolog):
        assert refused(prolog + BODY).code == "doctype_refused"

    def test_cannot_hide_behind_an_encoding(self):
        hidden = b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE x+AD4-'

        assert refused(hidden + BODY).code == "unknown_encoding"
        assert refused("<!DOCTYPE x>".encode("utf-16")).code == "not_xml"


class TestAFile:
    def test_that_ends_too_early_names_the_line(self):
        data = camt053(Made(entries=(Entry(amount=100), Entry(amount=200))))

        problem = refused(data[: data.index(b"</Ntry>") + 40])

        assert (problem.code, problem.line) == ("malformed_xml", 10)

    @pytest.mark.parametrize("data", [b"", b"   ", b":20:STARTUMS\r\n:25:1/2\r\n", b"a;b;c", b"<"])
    def test_that_is_no_xml_is_refused(self, data):
        assert refused(data).code == "not_xml"

    def test_over_the_cap_is_refused_unread(self):
        assert refused(b"<a>" + b" " * (50 * 1024 * 1024)).code == "file_too_large"

    def test_made_of_markup_alone_is_refused_with_flat_memory(self):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = BODY.replace(b"<Ntry>", b"<Ntry>" + b"<a/>" * 5_000_000, 1)

        problem = refused(data)

        assert problem.code == "file_too_large"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000

    def test_nested_too_deep_is_refused(self):
        assert (
            refused(BODY.replace(b"<Ntry>", b"<Ntry>" + b"<a>" * 5_000, 1)).code == "malformed_xml"
        )

    def test_of_another_format_is_refused_with_its_name(self):
        problem = refused(BODY.replace(b"camt.053.001.08", b"camt.052.001.08"))

        assert problem.code == "unknown_format"
        assert "camt.052.001.08" in problem.message

    def test_of_the_first_version_is_refused_with_its_name(self):
        problem = refused(BODY.replace(b"camt.053.001.08", b"camt.053.001.01"))

        assert "camt.053.001.01" in problem.message

    def test_in_latin_1_is_read(self):
        data = camt053(Made(entries=(Entry(amount=100, name="Müller"),))).decode()
        data = data.replace("UTF-8", "ISO-8859-1").encode("latin-1")

        [statement] = read_bank_file(data).statements

        assert statement.lines[0].details[0].counterparty.name == "Müller"


def test_lxml_parses_bytes_from_outside_in_one_module_only():
    folder = Path(__file__).parents[2] / "apps"

    users = {
        path.name
        for path in folder.rglob("*.py")
        if "from lxml" in path.read_text() and path.name != "pain001.py"
    }

    assert users == {"secure_xml.py"}
