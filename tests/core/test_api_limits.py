"""How much one key may ask: together, at once, and without Redis."""

import time
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest
import redis
from django.urls import path
from rest_framework.response import Response

from apps.core.api import limits, places, rates, reserves
from apps.core.api.problems import ApiProblem
from apps.core.api.rates import Limit
from apps.core.api.reserves import Reserve, Reserves
from apps.core.api.views import ApiView, LeanApiView, answer
from apps.core.ids import new_id
from tests.accounts.factories import Api, create_organization, issue_key
from tests.support import race

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.core.test_api_limits")]


class Limited(ApiView):
    scopes: ClassVar = {"GET": None, "POST": None}

    def get(self, request):
        return Response({"under_way": sum(places._in_flight.values())})

    def post(self, request):
        raise ValueError("A fault of ours.")


class LeanLimited(LeanApiView):
    scopes: ClassVar = {"GET": None, "POST": None}

    def get(self, request, caller):
        return answer({"under_way": sum(places._in_flight.values())})

    def post(self, request, caller):
        raise ValueError("A fault of ours.")


urlpatterns = [path("v1/limited", Limited.as_view()), path("v1/lean", LeanLimited.as_view())]


@pytest.fixture(params=["/v1/limited", "/v1/lean"])
def route(request):
    return request.param


@pytest.fixture
def api():
    return Api(create_organization(), "a:read")


@pytest.fixture
def tight(settings):
    """A limit that a test reaches: five at once, and then none as long as it may take."""
    settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 5
    settings.WEB_PROCESSES = 1


@pytest.fixture
def without_rest():
    """What fails in this test has the next one ask Redis all the same."""
    yield
    rates.shared._rests_until = 0.0


@pytest.fixture
def without_redis(settings, without_rest):
    # Nothing listens on this port.
    settings.CACHE_URL = "redis://127.0.0.1:1/0"


@pytest.fixture
def clock(monkeypatch):
    """The process's clock, which stands still until it is moved; Redis's goes on."""
    clock = SimpleNamespace(now=time.monotonic())
    for module in (rates, reserves):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def trips(monkeypatch):
    """How many were asked for of each key, a list for each time that Redis was asked."""
    made = []
    measure = rates.shared.measure

    def counting(asked, given):
        made.append([question.wanted for question in asked])
        return measure(asked, given)

    monkeypatch.setattr(rates.shared, "measure", counting)
    return made


def of_a_new_key():
    """A reserve whose bucket nobody has asked about."""
    return Reserve([f"kassa:rate:{{{new_id()}}}"])


def limited(per_second, burst):
    return lambda: [Limit(per_second, burst)]


class TestRate:
    def test_past_the_burst_is_429_and_says_when(self, api, route, tight):
        answers = [api.get(route) for _ in range(6)]

        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        refused = answers[-1]
        assert refused.json()["code"] == "rate_limited"
        assert 900 <= int(refused.headers["Retry-After"]) <= 1_000
        assert refused.headers["RateLimit-Policy"] == '"key";q=5;w=5000'
        assert refused.headers["RateLimit"].startswith('"key";r=0;')
        assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == [
            "r=4", "r=3", "r=2", "r=1", "r=0", "r=0",
        ]  # fmt: skip

    def test_reads_and_writes_are_counted_apart(self, api, route, tight):
        for _ in range(6):
            api.get(route)
        api.client.raise_request_exception = False

        assert api.post(route, {}).status_code == 500

    def test_each_key_has_its_own_and_the_organization_four_times_that(self, api, route, tight):
        keys = [api, *(Api(api.organization, "a:read") for _ in range(5))]

        codes = [[key.get(route).status_code for _ in range(4)] for key in keys]

        assert codes == [[200] * 4] * 5 + [[429] * 4]

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("burst", [5, 500])
    def test_many_at_once_in_two_processes_get_exactly_the_burst(self, clock, burst):
        one = of_a_new_key()
        other = Reserve(one.names)

        def take(reserve):
            return sum(reserve.take(limited(0.001, burst)).is_admitted for _ in range(burst))

        admitted = sum(race(*[partial(take, one), partial(take, other)] * 2))

        # As long as no time passes nothing is forfeited of what a process took and has in hand.
        assert admitted == burst

    def test_comes_back_with_time(self):
        reserve = of_a_new_key()

        first = reserve.take(limited(1_000, 1))

        assert first.is_admitted
        # At a thousand a second it is soon.
        ends = time.monotonic() + 20
        while not reserve.take(limited(1_000, 1)).is_admitted:
            assert time.monotonic() < ends

    def test_begins_anew_where_the_clock_of_redis_went_back(self, settings):
        [name] = of_a_new_key().names
        # As it was left a day from now, when that was the time.
        day = 24 * 3600
        redis.from_url(settings.CACHE_URL).set(name, (int(time.time()) + day) * 1_000_000, ex=day)

        admitted = [Reserve([name]).take(limited(0.001, 5)).is_admitted for _ in range(6)]

        assert admitted == [True] * 5 + [False]


class TestStrangers:
    """Who has no key is counted by the address that calls."""

    @pytest.fixture
    def address(self):
        """An address that no other test calls from."""
        number = new_id().int
        return f"2001:db8:{number >> 48 & 0xFFFF:x}:{number & 0xFFFF:x}::1"

    def admitted(self, address, *, times=6, subject=None, **meta):
        request = SimpleNamespace(META={"REMOTE_ADDR": address} | meta)
        found = []
        for _ in range(times):
            try:
                limits.admit_stranger(request, subject=subject or new_id())
            except ApiProblem as problem:
                found.append(problem.code != "rate_limited")
            else:
                found.append(True)
        return found

    def test_are_refused_past_the_burst(self, tight, address):
        assert self.admitted(address, subject=new_id()) == [True] * 5 + [False]

    def test_from_elsewhere_are_admitted_all_the_same(self, tight, address):
        subject = new_id()
        self.admitted(address, subject=subject)

        elsewhere = address.replace("2001:db8", "2001:db9")
        assert self.admitted(elsewhere, subject=subject, times=1) == [True]

    def test_have_four_times_that_about_many_subjects(self, tight, address):
        assert self.admitted(address, times=24) == [True] * 20 + [False] * 4

    def test_of_one_network_are_one(self, tight, address):
        subject = new_id()
        neighbors = [address.replace("::1", f"::{number:x}") for number in range(1, 7)]

        found = [self.admitted(each, subject=subject, times=1)[0] for each in neighbors]

        assert found == [True] * 5 + [False]

    def test_behind_our_proxy_are_told_apart_and_believed_no_more(self, tight, address, settings):
        settings.OWN_PROXIES = 1
        subject = new_id()

        def by_way_of_it(forwarded):
            return self.admitted(
                "10.0.0.1", subject=subject, times=1, HTTP_X_FORWARDED_FOR=forwarded
            )[0]

        forged = [by_way_of_it(f"192.0.2.{number}, {address}") for number in range(6)]

        assert forged == [True] * 5 + [False]
        assert by_way_of_it(address.replace("2001:db8", "2001:db9"))

    def test_are_limited_without_redis_too(self, tight, address, without_redis):
        assert self.admitted(address, subject=new_id()) == [True] * 5 + [False]


class TestReserve:
    """A busy process takes several requests of a key's rate at once."""

    def take(self, reserve, count, *, burst=10_000):
        return [reserve.take(limited(0.001, burst)) for _ in range(count)]

    def test_grows_while_it_runs_out_in_time_and_is_bounded(self, trips, clock):
        found = self.take(of_a_new_key(), 1 + 2 + 4 + 8 + 16 + 32 + 32 + 1)

        assert trips == [[1], [2], [4], [8], [16], [32], [32], [32]]
        assert [rate.remaining for rate in found] == [9_999 - n for n in range(len(found))]

    def test_is_a_small_share_of_the_burst(self, trips, clock):
        self.take(of_a_new_key(), 30, burst=200)

        assert max(trips) == [4]

    def test_is_forfeited_when_its_time_is_over(self, trips, clock):
        reserve = of_a_new_key()
        self.take(reserve, 1 + 2 + 4 + 3)
        # A little more: of two floats so far from zero the sum may be the smaller one.
        clock.now += 1.01 * reserves._RESERVE_SECONDS

        [rate] = self.take(reserve, 1)

        # Three of eight were handed out; the other five are gone, and three are asked for.
        assert trips == [[1], [2], [4], [8], [3]]
        assert rate.remaining == 10_000 - (1 + 2 + 4 + 8) - 1

    def test_ends_exactly_at_the_limit(self, trips, clock):
        found = self.take(of_a_new_key(), 502, burst=500)

        assert [rate.is_admitted for rate in found] == [True] * 500 + [False] * 2
        assert [rate.remaining for rate in found[-5:]] == [2, 1, 0, 0, 0]
        # The last one was refused without asking again.
        assert trips[-2:] == [[10], [2]]

    def test_what_was_refused_is_refused_again_without_asking_until_something_can_come(
        self, trips, clock
    ):
        reserve = of_a_new_key()

        found = self.take(reserve, 50, burst=2)

        assert [rate.is_admitted for rate in found] == [True] * 2 + [False] * 48
        assert len({rate.retry_seconds for rate in found[2:]}) == 1
        # Two that fitted, one that did not.
        assert len(trips) == 3
        clock.now += reserves._RESERVE_SECONDS
        self.take(reserve, 5, burst=2)
        assert len(trips) == 4

    def test_of_many_keys_is_forgotten_once_over(self, monkeypatch, clock):
        monkeypatch.setattr(reserves, "_RESERVES_MAX", 3)
        kept = Reserves()
        for _ in range(10):
            self.take(kept.of(new_id(), "write", lambda: of_a_new_key().names), 1)
            clock.now += reserves._RESERVE_SECONDS

        assert len(kept._found) <= 3

    def test_of_many_keys_is_forgotten_while_another_thread_adds_its_own(self, monkeypatch, clock):
        monkeypatch.setattr(reserves, "_RESERVES_MAX", 3)
        kept = Reserves()
        for _ in range(3):
            kept.of(new_id(), "write", list)

        def now():
            # Between two looks at what is over, as a thread that found room there does.
            kept._found.setdefault((new_id().int, "read"), of_a_new_key())
            return clock.now

        monkeypatch.setattr(reserves, "time", SimpleNamespace(monotonic=now))

        assert not kept.of(new_id(), "write", list)._held


@pytest.mark.usefixtures("clock")
class TestReserveTogether:
    """Requests of many keys that came together are counted in one trip."""

    def callers(self, *counts):
        """Keys of organizations of their own, each as often as it has requests."""
        return [
            caller
            for count in counts
            for caller in [SimpleNamespace(api_key_id=new_id(), organization_id=new_id())] * count
        ]

    def admitted(self, callers):
        found = []
        for caller in callers:
            request = SimpleNamespace(method="POST", META={})
            try:
                limits.admit(request, caller)
            except ApiProblem as problem:
                found.append(problem.code)
            else:
                found.append(request.rate.remaining)
            places.release(request)
        return found

    def test_what_waits_of_each_key_is_counted_at_once_and_handed_out(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 3, 40)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 999, 998, 997, *range(999, 959, -1)]
        assert trips == [[1, 3, 40]]

    def test_no_more_than_the_limit_is_granted_and_who_is_beyond_it_is_refused(
        self, trips, settings
    ):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 5
        callers = self.callers(7, 5, 1)

        limits.reserve(callers, kind="write")

        refused = ["rate_limited"] * 2
        assert self.admitted(callers) == [4, 3, 2, 1, 0, *refused, 4, 3, 2, 1, 0, 4]
        # The first one refused looks whether something has come back.
        assert trips == [[7, 5, 1], [1]]

    def test_keys_of_one_organization_share_what_it_may_have(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 5
        organization_id = new_id()
        callers = self.callers(5, 5, 5, 3, 5)
        for caller in callers:
            caller.organization_id = organization_id

        limits.reserve(callers, kind="write")

        # Four times what one key may: two of it are left to the last one.
        assert self.admitted(callers)[15:] == [4, 3, 2, 4, 3, *["rate_limited"] * 3]
        assert trips[0] == [5, 5, 5, 3, 5]

    def test_what_is_in_hand_is_not_asked_for_again(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(2, 1)
        limits.reserve(callers, kind="write")

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 998, 999]
        assert trips == [[2, 1]]

    def test_one_key_alone_is_left_to_its_own_reserve(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(3)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 998, 997]
        assert trips == [[1], [2]]

    def test_redis_is_given_the_script_where_it_has_none(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 2)
        # As after a restart: Redis knows none by the digest that we have.
        rates._script(settings.CACHE_URL).sha = "0" * 40

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 999, 998]
        assert trips == [[1, 2]]

    def test_what_redis_does_not_do_for_all_each_asks_for_itself(
        self, trips, settings, without_rest
    ):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.1, 5
        settings.WEB_PROCESSES = 1
        broken, fine = self.callers(1, 1)
        [name, _] = limits._reserve_of(broken, "write").names
        redis.from_url(settings.CACHE_URL).lpush(name, "no bucket")

        limits.reserve([broken, fine], kind="write")

        assert self.admitted([fine, broken]) == [4, 4]
        assert trips == [[1, 1], [1], [1]]

    def test_without_redis_the_process_counts(self, without_redis, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.1, 5
        settings.WEB_PROCESSES = 1
        callers = self.callers(6, 1)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [4, 3, 2, 1, 0, "rate_limited", 4]
        # It is left alone for a moment after its failure.
        assert trips == [[6, 1]]

    def test_one_that_another_thread_asks_about_is_not_waited_for(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 1, 1)
        busy = limits._reserve_of(callers[0], "write")
        assert busy.begin_asking()

        limits.reserve(callers, kind="write")

        busy.end_asking()
        assert trips == [[1, 1]]
        assert self.admitted(callers) == [999] * 3


class TestWithoutRedis:
    def test_the_same_limit_holds_in_the_process(self, api, route, tight, without_redis):
        answers = [api.get(route) for _ in range(6)]

        assert [answer.status_code for answer in answers] == [200] * 5 + [429]

    def test_each_process_has_its_share(self, api, route, tight, without_redis, settings):
        settings.WEB_PROCESSES = 2

        answers = [api.get(route).status_code for _ in range(6)]

        assert answers == [200] * 2 + [429] * 4

    def test_redis_is_not_asked_again_at_once(self, api, route, without_redis, monkeypatch):
        monkeypatch.setattr(rates, "_REDIS_REST_SECONDS", 600)
        assert api.get(route).status_code == 200
        rests_until = rates.shared._rests_until
        for _ in range(5):
            assert api.get(route).status_code == 200

        # Each further failure would have moved it on.
        assert rates.shared._rests_until == rests_until > 0


class TestAtOnce:
    def test_a_place_is_given_back_also_by_a_fault(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        api.client.raise_request_exception = False

        assert [api.get(route).json() for _ in range(3)] == [{"under_way": 1}] * 3
        assert api.post(route, {}).status_code == 500
        assert not places._in_flight

    def test_one_more_than_allowed_is_429(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX, settings.WEB_PROCESSES = 4, 2
        places._in_flight[api.key.id.int] = 2

        refused = api.get(route)
        places._in_flight[api.key.id.int] = 1
        taken = api.get(route)
        del places._in_flight[api.key.id.int]

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert taken.status_code == 200

    def test_another_key_is_not_held_up(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        places._in_flight[issue_key(api.organization).key.id.int] = 1

        assert api.get(route).status_code == 200
        places._in_flight.clear()

    def test_an_organization_leaves_threads_to_others_by_however_many_keys(
        self, api, route, settings
    ):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        settings.WEB_THREADS = 4
        places._on_threads[api.organization.id.int] = 2

        refused = Api(api.organization, "a:read").get(route)
        other = Api(create_organization(), "a:read").get(route)
        places._on_threads[api.organization.id.int] = 1
        taken = api.get(route)

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert (other.status_code, taken.status_code) == (200, 200)
        assert places._on_threads == {api.organization.id.int: 1}
        assert not places._in_flight
        places._on_threads.clear()
