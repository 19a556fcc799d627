"""The base of the API, through small views of this page's own."""

import io
import json
from http import HTTPStatus
from typing import ClassVar

import psycopg
import pytest
from django.db import OperationalError
from django.http import Http404, HttpResponse
from django.test import Client
from django.urls import include, path
from rest_framework.response import Response

from apps.core import context, errors
from apps.core.api import fields
from apps.core.api.caller import declared_scopes
from apps.core.api.problems import STATUS_OF_REFUSAL, status_of, unavailable
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import (
    ApiView,
    LeanApiView,
    answer,
    get_caller,
    read_json,
    require_idempotency_key,
)
from apps.core.errors import refusal_classes
from apps.core.idempotency import RequestInProgress
from apps.core.transactions import RunAgainAfter
from tests.accounts.factories import Api, create_customer, create_organization

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.core.test_api_base")]

ACCOUNT = "la_00000000000000000000000000"


class Inner(StrictSerializer):
    code = fields.CodeField(["a", "b"])


class Shape(StrictSerializer):
    account = fields.IdField("la", required=False)
    amount = fields.AmountField(required=False)
    currency = fields.CurrencyField(required=False)
    text = fields.TextField(10, required=False)
    at = fields.InstantField(required=False)
    day = fields.DayField(required=False)
    number = fields.IntegerField(least=0, most=9, required=False)
    truth = fields.TruthField(required=False)
    inner = Inner(many=True, required=False)
    metadata = fields.MetadataField()


class Echo(ApiView):
    scopes: ClassVar = {"POST": "echoes:write", "GET": None}

    def post(self, request):
        body = Shape(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(Shape(body.validated_data).data, status=201)

    def get(self, request):
        return Response({"mode": get_caller(request).mode})

    def delete(self, request):
        raise AssertionError("A method without a scope is never called.")


class Keyed(ApiView):
    scopes: ClassVar = {"POST": None}

    def post(self, request):
        context.current().replayed = True
        return Response({"key": require_idempotency_key(request)})


class Lean(LeanApiView):
    scopes: ClassVar = {"POST": "echoes:write", "GET": None}

    def get(self, request, caller):
        return answer({"mode": caller.mode})

    def post(self, request, caller):
        body = Shape(data=read_json(request))
        body.is_valid(raise_exception=True)
        return answer(Shape(body.validated_data).data, status=201)


class Small(ApiView):
    scopes: ClassVar = {"POST": None}
    body_bytes_max = 20

    def post(self, request):
        return Response(request.data)


class Failing(ApiView):
    scopes: ClassVar = {"GET": None}
    fault: ClassVar[Exception]

    def get(self, request):
        raise self.fault


def database_error(kind):
    fault = OperationalError("could not write to /var/lib/secret: password=x")
    fault.__cause__ = kind("the driver's own words") if kind else None
    return fault


urlpatterns = [
    path("v1/echo", Echo.as_view()),
    path("v1/keyed", Keyed.as_view()),
    path("v1/lean", Lean.as_view()),
    path("v1/small", Small.as_view()),
    path("v1/failing", Failing.as_view()),
    path("v1/", include("apps.accounts.api.urls")),
    path("v1/", include("apps.core.api.urls")),
]


@pytest.fixture
def api():
    return Api(create_organization(), "echoes:write", "customers:read")


@pytest.fixture(params=["/v1/echo", "/v1/lean"])
def route(request):
    """Each answer is the same with and without the framework's request."""
    return request.param


class TestBodies:
    @pytest.mark.parametrize(
        "raw",
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "1e400",
            "-1",
            "0",
            "-0",
            "1.0",
            "0.1",
            '"10"',
            "true",
            "null",
            "[]",
            "{}",
            "10000000000001",
            "1" + "0" * 5000,
            '"1_000"',
            '"١٢"',
            '"\uff11\uff12"',
            "1e3",
            "01",
            "+1",
            "1_000",
            "١٢",
            "0x10",
            "",
        ],
        ids=lambda raw: ascii(raw)[:20],
    )
    def test_what_is_no_amount_is_400(self, api, route, raw):
        response = api.send("POST", route, f'{{"amount": {raw}}}'.encode())

        problem = response.json()
        assert response.status_code == 400
        assert problem["code"] in {"invalid_request", "invalid_json"}
        if problem["code"] == "invalid_request" or raw in {"NaN", "1e400"}:
            assert problem["errors"][0]["pointer"] == "/amount"

    @pytest.mark.parametrize("amount", [1, 10**13])
    def test_amounts_are_read_up_to_both_bounds(self, api, route, amount):
        response = api.post(route, {"amount": amount})

        assert (response.status_code, response.json()["amount"]) == (201, amount)

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json; charset=bz2_codec",
            "application/json; charset=utf-7",
            "application/json; charset=utf-16",
            "application/json; charset=latin-1",
            "text/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json, text/plain",
        ],
    )
    def test_another_media_type_or_charset_is_415_and_not_decoded(self, api, route, content_type):
        response = api.send("POST", route, b"\xff\xfe", **{"Content-Type": content_type})

        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"'],
    )
    def test_json_in_utf_8_is_read(self, api, route, content_type):
        response = api.send(
            "POST", route, '{"text": "é"}'.encode(), **{"Content-Type": content_type}
        )

        assert response.json()["text"] == "é"

    def test_a_compressed_body_is_415(self, api, route):
        response = api.send("POST", route, b"x", **{"Content-Encoding": "gzip"})

        assert response.status_code == 415

    @pytest.mark.parametrize(
        ("raw", "pointer"),
        [
            (b"[" * 100_000, ""),
            (b'{"text": "a", "text": "b"}', "/text"),
            (b'{"text": "\\ud800"}', "/text"),
            (b'{"text": "\xff"}', None),
            (b"\xef\xbb\xbf{}", ""),
            (b'{"text"', ""),
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_what_is_not_our_json_is_400(self, api, route, raw, pointer):
        response = api.send("POST", route, raw)

        assert (response.status_code, response.json()["code"]) == (400, "invalid_json")
        errors_ = response.json().get("errors", [{"pointer": None}])
        assert errors_[0]["pointer"] == pointer

    @pytest.mark.parametrize("raw", [b"[]", b'"x"', b"1", b"null", b"true"])
    def test_a_body_is_an_object(self, api, route, raw):
        assert api.send("POST", route, raw).status_code == 400

    def test_no_body_is_an_empty_object(self, api, route):
        assert api.post(route).status_code == 201

    def test_past_the_limit_is_413_whatever_is_claimed(self, api):
        fits, over = b'{"text":"' + b"x" * 9 + b'"}', b'{"text":"' + b"x" * 10 + b'"}'

        assert len(fits) == 20
        assert api.send("POST", "/v1/small", fits).status_code == 200
        response = api.send("POST", "/v1/small", over)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")

    def test_a_chunked_body_is_counted_as_it_streams(self, api):
        def send(raw):
            return api.client.generic(
                "POST",
                "/v1/small",
                headers=api.headers({}) | {"Content-Type": "application/json"},
                **{"wsgi.input": io.BytesIO(raw), "wsgi.input_terminated": True},
            )

        assert send(b'{"a": 1}').json() == {"a": 1}
        assert send(b'{"a": "' + b"x" * 1000).status_code == 413


class TestFields:
    @pytest.mark.parametrize(
        ("body", "pointers"),
        [
            ({"unknown": 1}, ["/unknown"]),
            ({"inner": [{"code": "a"}, {"code": "c"}]}, ["/inner/1/code"]),
            ({"inner": [{"code": "a", "x/y": 1}]}, ["/inner/0/x~1y"]),
            ({"inner": [{}]}, ["/inner/0/code"]),
            ({"amount": 0, "currency": "sek"}, ["/amount", "/currency"]),
            ({"currency": "XAU"}, ["/currency"]),
            ({"currency": "\uff25\uff35\uff32"}, ["/currency"]),
            ({"account": "la_1"}, ["/account"]),
            ({"account": 1}, ["/account"]),
            ({"text": 1}, ["/text"]),
            ({"text": "ééééééé"}, ["/text"]),
            ({"text": "a\u200b"}, ["/text"]),
            ({"at": "2026-11-23T10:00:00"}, ["/at"]),
            ({"at": "2026-11-23"}, ["/at"]),
            ({"at": "2026-02-30T10:00:00Z"}, ["/at"]),
            ({"at": "0001-01-01T00:00:00+14:00"}, ["/at"]),
            ({"at": 1}, ["/at"]),
            ({"day": "2026-02-30"}, ["/day"]),
            ({"day": "20261123"}, ["/day"]),
            ({"number": 10}, ["/number"]),
            ({"number": True}, ["/number"]),
            ({"truth": 1}, ["/truth"]),
            ({"truth": "true"}, ["/truth"]),
            ({"metadata": {"k": "x" * 501}}, ["/metadata/k"]),
            ({"metadata": {"": "x"}}, ["/metadata"]),
            # Written otherwise, both keys are one; and what is short enough may become too long.
            ({"metadata": {"\u00e9": "x", "e\u0301": "y"}}, ["/metadata"]),
            ({"metadata": {"\ufb2c" * 13: "x"}}, ["/metadata"]),
            ({"metadata": {"k": "\ufb2c" * 166}}, ["/metadata/k"]),
        ],
        ids=ascii,
    )
    def test_a_wrong_shape_names_each_place(self, api, route, body, pointers):
        response = api.post(route, body)

        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        assert [error["pointer"] for error in response.json()["errors"]] == pointers

    def test_values_come_back_in_one_form(self, api, route):
        response = api.post(
            route,
            {
                "account": ACCOUNT,
                "amount": 1050,
                "currency": "SEK",
                "text": "e\u0301",
                "at": "2026-11-23t10:00:00.5+01:00",
                "day": "2026-11-23",
                "number": 0,
                "truth": False,
                "inner": [{"code": "a"}],
                "metadata": {"k": "v"},
            },
        )

        assert response.json() == {
            "account": ACCOUNT,
            "amount": 1050,
            "currency": "SEK",
            "text": "é",
            "at": "2026-11-23T09:00:00.500000Z",
            "day": "2026-11-23",
            "number": 0,
            "truth": False,
            "inner": [{"code": "a"}],
            "metadata": {"k": "v"},
        }

    def test_an_id_of_another_kind_is_404(self, api, route):
        response = api.post(route, {"account": ACCOUNT.replace("la_", "cus_")})

        assert (response.status_code, response.json()["code"]) == (404, "not_found")

    def test_a_card_number_is_refused_by_its_own_code(self, api, route):
        response = api.post(route, {"metadata": {"note": "4111111111111111"}})

        assert response.json()["code"] == "pan_not_allowed"


class TestRoutes:
    def test_an_address_that_is_not_there_is_a_problem_too(self, api):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            response = api.client.generic(method, "/v1/nothing")
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found")

    def test_a_method_that_is_not_there_is_405_and_names_the_others(self, api, route):
        response = api.send("PUT", route, {})

        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        assert "POST" in response.headers["Allow"]
        assert "OPTIONS" not in response.headers["Allow"]
        for method in ("OPTIONS", "TRACE"):
            assert api.send(method, route, None).status_code == 405

    def test_every_method_that_is_named_is_answered(self, api, route):
        named = api.send("PUT", route, {}).headers["Allow"].split(", ")

        assert {"GET", "HEAD", "POST"} <= set(named)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            status = api.send(method, route, {}).status_code
            assert (status != 405) == (method in named), method

    def test_a_method_without_a_scope_is_denied(self, api):
        assert api.send("DELETE", "/v1/echo", None).status_code == 403

    def test_nobody_comes_in_without_a_key(self, route):
        response = Client().post(route, b"[" * 100_000, content_type="application/json")

        assert response.status_code == 401

    def test_a_scope_is_needed(self, route):
        other = Api(create_organization(), "customers:read")

        response = other.post(route, {})

        assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")

    def test_every_scope_is_known_for_a_key_that_gets_all(self):
        assert "echoes:write" in declared_scopes()


class TestHeaders:
    def test_every_answer_says_its_version_and_is_kept_nowhere(self, api):
        for response in (api.get("/v1/echo"), api.get("/v1/nothing"), Client().get("/v1/echo")):
            assert response.headers["Kassa-Version"] == "2026-11-01"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Request-Id"]

    def test_a_request_id_comes_back_if_it_looks_like_one(self, api):
        assert api.get("/v1/echo", **{"Request-Id": "abc-12345"}).headers["Request-Id"] == (
            "abc-12345"
        )
        for odd in ("a b", "x" * 65, "é" * 10, "<script>alert(1)</script>"):
            assert api.get("/v1/echo", **{"Request-Id": odd}).headers["Request-Id"] != odd

    @pytest.mark.parametrize("key", ["k", "x" * 255, "!~", "Ab-1_2:3"])
    def test_an_idempotency_key_is_visible_ascii(self, api, key):
        response = api.post("/v1/keyed", {}, key=key)

        assert response.json() == {"key": key}
        assert response.headers["Idempotent-Replayed"] == "true"

    @pytest.mark.parametrize("key", ["x" * 256, "a b", "é", "a\x7f", " "])
    def test_anything_else_is_400(self, api, key):
        response = api.post("/v1/keyed", {}, key=key)

        assert response.status_code == 400
        assert response.json()["code"] in {"idempotency_key_invalid", "idempotency_key_missing"}

    def test_none_is_400(self, api):
        response = api.send("POST", "/v1/keyed", {})

        assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_missing")

    def test_the_answer_is_json_whatever_is_accepted(self, api):
        response = api.get("/v1/echo", Accept="text/html, application/xml")

        assert response.headers["Content-Type"] == "application/json"


class Odd(errors.RuleViolation):
    code = "tests_odd"


class TestProblems:
    def get(self, api, fault):
        Failing.fault = fault
        api.client.raise_request_exception = False
        return api.get("/v1/failing")

    def test_a_refusal_says_what_helps(self, api):
        response = self.get(api, Odd("That is odd.", payout="po_1", amount=5, type="x", status=1))

        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json() == {
            "type": "/docs/errors#tests_odd",
            "title": HTTPStatus(422).phrase,
            "status": 422,
            "detail": "That is odd.",
            "code": "tests_odd",
            "payout": "po_1",
            "amount": 5,
            "request_id": response.headers["Request-Id"],
        }

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            (errors.InvalidInput, 400),
            (errors.NotPermitted, 403),
            (errors.NotFound, 404),
            (errors.StateConflict, 409),
            (errors.RuleViolation, 422),
            (errors.TooOften, 429),
        ],
    )
    def test_its_class_is_its_status(self, api, kind, status):
        assert self.get(api, kind("No.")).status_code == status

    def test_every_code_has_one_status(self):
        for kind in refusal_classes().values():
            assert kind is errors.Refusal or issubclass(
                kind, tuple(base for base, _ in STATUS_OF_REFUSAL)
            )
            assert 400 <= status_of(kind) < 500

    @pytest.mark.parametrize(
        "kind",
        [
            psycopg.errors.LockNotAvailable,
            psycopg.errors.QueryCanceled,
            psycopg.errors.TooManyConnections,
            psycopg.errors.DiskFull,
            psycopg.errors.OutOfMemory,
            psycopg.errors.ReadOnlySqlTransaction,
            psycopg.errors.AdminShutdown,
            psycopg.errors.CannotConnectNow,
            psycopg.errors.IdleInTransactionSessionTimeout,
            psycopg.errors.TransactionTimeout,
            psycopg.errors.ConnectionFailure,
            psycopg.OperationalError,
            None,
        ],
    )
    def test_a_database_that_is_away_is_503_and_says_when(self, api, kind):
        response = self.get(api, database_error(kind))

        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert 1 <= int(response.headers["Retry-After"]) <= 10
        assert "driver" not in response.content.decode()
        assert "password" not in response.content.decode()

    @pytest.mark.parametrize(
        "fault",
        [
            database_error(psycopg.errors.SerializationFailure),
            database_error(psycopg.errors.DeadlockDetected),
            RunAgainAfter(lambda: None),
        ],
        ids=repr,
    )
    def test_who_was_too_late_each_time_is_told_to_come_again(self, api, fault):
        response = self.get(api, fault)

        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert 1 <= int(response.headers["Retry-After"]) <= 10
        assert "same idempotency key" in response.json()["detail"]

    @pytest.mark.parametrize(
        "fault",
        [
            RuntimeError("secret detail"),
            errors.InvariantBroken("secret detail"),
            database_error(psycopg.errors.UndefinedTable),
            KeyError("secret detail"),
        ],
        ids=repr,
    )
    def test_a_fault_of_ours_is_500_without_a_word_of_it(self, api, fault):
        response = self.get(api, fault)

        assert (response.status_code, response.json()["code"]) == (500, "internal_error")
        assert "secret" not in response.content.decode()
        assert "Traceback" not in response.content.decode()

    def test_the_first_request_still_running_is_409_with_retry_after(self, api):
        response = self.get(api, RequestInProgress("It runs."))

        assert (response.status_code, response.headers["Retry-After"]) == (409, "1")

    def test_djangos_own_404_is_a_problem(self, api):
        assert self.get(api, Http404("x")).json()["code"] == "route_not_found"

    def test_second_tries_are_spread(self):
        seconds = {unavailable("x").headers["Retry-After"] for _ in range(200)}

        assert len(seconds) > 5


class TestPages:
    @pytest.fixture
    def customers(self, api):
        return [create_customer(api.organization, external_id=f"c{number}") for number in range(7)]

    def page(self, api, query):
        response = api.get(f"/v1/customers?{query}")
        assert response.status_code == 200, response.content
        found = response.json()
        return found, [row["external_id"] for row in found["data"]]

    def test_go_from_the_newest_to_the_oldest_and_back(self, api, customers):
        first, names = self.page(api, "limit=3")
        assert (names, first["previous"]) == (["c6", "c5", "c4"], None)

        second, names = self.page(api, f"limit=3&after={first['next']}")
        assert names == ["c3", "c2", "c1"]

        third, names = self.page(api, f"limit=3&after={second['next']}")
        assert (names, third["next"], third["has_more"]) == (["c0"], None, False)

        back, names = self.page(api, f"limit=3&before={third['previous']}")
        assert names == ["c3", "c2", "c1"]
        start, names = self.page(api, f"limit=3&before={back['previous']}")
        assert (names, start["previous"]) == (["c6", "c5", "c4"], None)

    def test_stay_where_they_were_when_rows_are_added(self, api, customers):
        first, _names = self.page(api, "limit=3")
        create_customer(api.organization, external_id="new")

        _second, names = self.page(api, f"limit=3&after={first['next']}")

        assert names == ["c3", "c2", "c1"]

    def test_have_at_most_a_hundred_rows(self, api):
        for limit in ("0", "101", "-1", "x", "", "1e1", "٣", "0x1", "99999999999"):
            response = api.get(f"/v1/customers?limit={limit}")
            assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        assert api.get("/v1/customers?limit=100").status_code == 200

    def test_take_no_cursor_but_their_own(self, api, customers):
        first, _names = self.page(api, "limit=3")
        other = Api(create_organization(), "customers:read")
        cursor = first["next"]
        changed = cursor[:5] + ("B" if cursor[5] == "A" else "A") + cursor[6:]

        for wrong in (changed, cursor[:-1], "", "x", "é", "A" * 32, "A" * 5000):
            response = api.client.get("/v1/customers", {"after": wrong}, headers=api.headers({}))
            assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
        assert other.get(f"/v1/customers?after={cursor}").status_code == 400
        assert api.get(f"/v1/customers?after={cursor}&before={cursor}").status_code == 400
        assert api.get("/v1/customers?limit=1&limit=2").status_code == 400

    def test_the_old_secret_still_reads_cursors(self, api, customers, settings):
        first, _names = self.page(api, "limit=3")
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "n" * 60

        _second, names = self.page(api, f"limit=3&after={first['next']}")

        assert names == ["c3", "c2", "c1"]


def test_a_plain_response_passes_unchanged(api):
    assert isinstance(api.get("/v1/echo"), HttpResponse)
    assert json.loads(api.get("/v1/echo").content) == {"mode": "live"}
