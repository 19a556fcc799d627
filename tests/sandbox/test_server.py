from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sandbox.conftest import OURS, payment_file, run_sandbox


def closing(tree):
    return tree.all("Bal/Amt")[1]


class TestFiles:
    def test_takes_a_file_and_answers_it(self, bank):
        status, answer = bank.post("/bank/files", payment_file())

        assert (status, answer) == (202, {"msg_id": "MSG1", "duplicate": False})
        files = bank.files()
        assert [each["kind"] for each in files] == ["pain.002", "camt.054", "camt.053"]
        assert bank.files(after=files[-1]["id"]) == []
        assert bank.get("/bank/messages/MSG1")["msg_id"] == "MSG1"

    def test_takes_a_message_once(self, bank):
        with ThreadPoolExecutor(5) as pool:
            answers = list(
                pool.map(lambda _: bank.post("/bank/files", payment_file())[1], range(5))
            )

        assert sorted(each["duplicate"] for each in answers) == [False, True, True, True, True]
        reports = bank.files("pain.002")
        assert [each["tree"].one("GrpSts") for each in reports] == ["ACTC"] + ["RJCT"] * 4
        assert reports[-1]["tree"].one("StsRsnInf/Rsn/Cd") == "DU01"
        assert len(bank.files("camt.053")) == 1

    def test_keeps_everything_when_it_is_killed(self, bank):
        bank.misbehave("reject", code="AC01")
        bank.post("/bank/files", payment_file())
        before = [(each["id"], each["sha256"]) for each in bank.files()]
        bank.misbehave("reject", level="group", code="AM04")

        bank.kill()
        bank.start()

        assert [(each["id"], each["sha256"]) for each in bank.files()] == before
        bank.post("/bank/files", payment_file(message_id="MSG2"))
        [report] = bank.files("pain.002", after=before[-1][0])
        assert report["tree"].one("StsRsnInf/Rsn/Cd") == "AM04"

    def test_books_an_incoming_credit(self, bank):
        bank.post(
            "/bank/credits",
            {"iban": OURS, "amount": "12.50", "reference": "RF18539007547034", "name": "Ada"},
        )

        [statement] = bank.files("camt.053")
        assert statement["tree"].one("CdtrRefInf/Ref") == "RF18539007547034"
        assert closing(statement["tree"]) == "12.50"

    def test_shows_the_files_of_one_account_only(self, bank):
        for iban in (OURS, "FI2112345600000785"):
            bank.post("/bank/credits", {"iban": iban, "amount": "1.00", "text": "hello"})

        everything = bank.get("/bank/files?after=0")["files"]
        ours = bank.get(f"/bank/files?after=0&iban={OURS}")["files"]

        assert (len(everything), len(ours)) == (4, 2)

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/bank/files", b"<a/>", 400),
            ("/bank/files", b"<!DOCTYPE a []><a/>", 400),
            ("/bank/credits", {"amount": "1"}, 400),
            ("/control", {"behaviour": "explode"}, 400),
            ("/control", {"behaviour": "reject"}, 400),
            ("/control", {"behaviour": "reject", "options": {"code": "AC01"}, "times": 0}, 400),
            ("/control", {"behaviour": "no_answer", "match": {"moon": "full"}}, 400),
            ("/clock", {"now": "2026-12-01T00:00:00"}, 400),
            ("/nowhere", {}, 404),
        ],
    )
    def test_refuses_what_it_does_not_understand(self, bank, path, body, status):
        answered, problem = bank.post(path, body)

        assert answered == status
        assert problem["error"]
        assert bank.files() == []

    def test_has_no_file_or_message_of_that_name(self, bank):
        assert bank.call("GET", "/bank/files/99")[0] == 404
        assert bank.call("GET", "/bank/messages/none")[0] == 404

    def test_says_that_it_lives(self, bank):
        assert bank.get("/health") == {"status": "ok"}

    def test_listens_on_the_loopback_only(self, database):
        completed = run_sandbox(database, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  (must be refused)

        assert completed.returncode == 2
        assert "loopback" in completed.stderr


class TestClock:
    def test_books_on_the_execution_day_and_not_before(self, bank):
        bank.post("/clock", {"now": "2026-12-03T12:00:00Z"})
        bank.misbehave("return", match={"end_to_end_id": "E1"}, code="AC04")
        bank.post("/bank/files", payment_file())

        assert [each["kind"] for each in bank.files()] == ["pain.002"]
        bank.post("/clock", {"now": "2026-12-04T18:00:00Z"})
        assert len(bank.files("camt.053")) == 1
        bank.post("/clock", {"now": "2026-12-07T08:00:00+01:00"})
        statements = bank.files("camt.053")
        assert len(statements) == 2
        assert statements[1]["tree"].one("RtrInf/Rsn/Cd") == "AC04"

    def test_runs_on_when_let_go(self, bank):
        bank.post("/clock", {"now": "2026-12-03T12:00:00Z"})
        bank.post("/bank/files", payment_file())

        bank.post("/clock", {"now": None})

        assert len(bank.files("camt.053")) == 1


class TestMisbehavior:
    @pytest.mark.parametrize("match", [{"amount": "25.50"}, {"end_to_end_id": "E2"}])
    def test_rejects_only_what_matches_and_only_so_often(self, bank, match):
        bank.misbehave("reject", match=match, code="AG01")
        bank.post("/bank/files", payment_file())
        bank.post("/bank/files", payment_file(message_id="MSG2"))

        first, second = bank.files("pain.002")
        assert first["tree"].one("OrgnlEndToEndId") == "E2"
        assert second["tree"].all("OrgnlEndToEndId") == []
        assert bank.get("/control") == {"behaviours": []}

    def test_rejects_a_payment_block(self, bank):
        bank.misbehave("reject", match={"payment_id": "MSG1-1"}, level="payment", code="AC06")
        bank.post("/bank/files", payment_file())

        [report] = bank.files()
        assert report["tree"].one("OrgnlPmtInfAndSts/StsRsnInf/Rsn/Cd") == "AC06"

    def test_gives_no_answer(self, bank):
        bank.misbehave("no_answer")
        status, _ = bank.post("/bank/files", payment_file())

        assert status == 202
        assert bank.files() == []
        assert bank.get("/bank/messages/MSG1")["msg_id"] == "MSG1"

    def test_hangs_before_doing_anything(self, bank):
        bank.misbehave("timeout_before", seconds=30)
        with pytest.raises(TimeoutError):
            bank.post("/bank/files", payment_file(), timeout=0.3)

        assert bank.call("GET", "/bank/messages/MSG1")[0] == 404

    def test_hangs_after_doing_it(self, bank):
        bank.misbehave("timeout_after", seconds=30)
        with pytest.raises(TimeoutError):
            bank.post("/bank/files", payment_file(), timeout=2)

        assert bank.get("/bank/messages/MSG1")["msg_id"] == "MSG1"
        assert len(bank.files("camt.053")) == 1

    def test_sends_the_same_statement_twice(self, bank):
        bank.misbehave("duplicate_file", match={"kind": "camt.053"})
        bank.post("/bank/files", payment_file())

        first, second = bank.files("camt.053")
        assert first["sha256"] == second["sha256"]

    def test_leaves_a_gap_and_fills_it_later(self, bank):
        bank.misbehave("statement_gap")
        bank.post("/bank/files", payment_file())

        [statement] = bank.files("camt.053")
        assert statement["tree"].all("Bal/Amt")[0] == "1.00"
        assert bank.post("/bank/release", {})[1] == {"released": 1}
        missing = bank.files("camt.053")[1]
        assert missing["tree"].all("Bal/Amt") == ["0.00", "1.00"]

    def test_adds_up_wrongly_and_then_goes_on_from_the_right_balance(self, bank):
        bank.misbehave("statement_wrong_sum", match={"iban": OURS}, by="15.37")
        bank.post("/bank/files", payment_file(amounts=["100.00"]))
        bank.post("/bank/files", payment_file(message_id="MSG2", amounts=["1.00"]))

        wrong, right = bank.files("camt.053")
        assert wrong["tree"].all("Bal/Amt") == ["0.00", "84.63"]
        assert right["tree"].all("Bal/Amt") == ["100.00", "101.00"]

    def test_answers_others_while_it_hangs(self, bank):
        bank.misbehave("timeout_before", match={"msg_id": "SLOW"}, seconds=30)

        def hang():
            with pytest.raises(TimeoutError):
                bank.post("/bank/files", payment_file(message_id="SLOW"), timeout=1)

        hanging = threading.Thread(target=hang)
        hanging.start()
        status, _ = bank.post("/bank/files", payment_file())
        hanging.join()

        assert status == 202

    def test_behaves_again_when_cleared(self, bank):
        bank.misbehave("reject", times=None, level="group", code="AM04")
        bank.post("/control/clear", {})
        bank.post("/bank/files", payment_file())

        assert bank.files("pain.002")[0]["tree"].one("GrpSts") == "ACTC"
