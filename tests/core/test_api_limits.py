"""How much one key may ask: together, at once, and without Redis."""

import time
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest
from django.urls import path
from rest_framework.response import Response

from apps.core.api import limits, places
from apps.core.api.problems import ApiProblem
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
    """A limit that a test reaches: five at once, and then one in ten seconds."""
    settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.1, 5
    settings.WEB_PROCESSES = 1


@pytest.fixture
def without_redis(settings):
    # Nothing listens on this port.
    settings.CACHE_URL = "redis://127.0.0.1:1/0"
    yield
    limits._redis._rests_until = 0.0


@pytest.fixture
def clock(monkeypatch):
    """The process's clock, which stands still until it is moved; Redis's goes on."""
    clock = SimpleNamespace(now=limits.time.monotonic())
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class TestRate:
    def test_past_the_burst_is_429_and_says_when(self, api, route, tight):
        answers = [api.get(route) for _ in range(6)]

        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        refused = answers[-1]
        assert refused.json()["code"] == "rate_limited"
        assert 8 <= int(refused.headers["Retry-After"]) <= 10
        assert refused.headers["RateLimit-Policy"] == '"key";q=5;w=50'
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
    def test_many_at_once_in_two_processes_get_exactly_the_burst(self, burst):
        buckets = [limits._Bucket(f"kassa:rate:{{{new_id()}}}", 0.001, burst)]
        one, other = limits._Reserve(), limits._Reserve()

        def take(reserve):
            return sum(reserve.take(lambda: buckets).is_admitted for _ in range(burst))

        admitted = sum(race(*[partial(take, one), partial(take, other)] * 2))

        # What was taken and not handed out in time is forfeited; more than the limit is never had.
        assert burst - 2 * (burst // 50) <= admitted <= burst

    def test_comes_back_with_time(self):
        bucket = limits._Bucket(f"kassa:rate:{{{new_id()}}}", 1_000, 1)
        reserve = limits._Reserve()

        first = reserve.take(lambda: [bucket])

        assert first.is_admitted
        # At a thousand a second it is soon.
        ends = time.monotonic() + 20
        while not reserve.take(lambda: [bucket]).is_admitted:
            assert time.monotonic() < ends

    def test_begins_anew_where_the_clock_of_redis_went_back(self, settings):
        bucket = limits._Bucket(f"kassa:rate:{{{new_id()}}}", 0.1, 5)
        client, _script = limits._script(settings.CACHE_URL)
        # As it was left an hour from now, when that was the time.
        client.set(bucket.name, (int(time.time()) + 3600) * 1_000_000, ex=3600)

        admitted = [limits._Reserve().take(lambda: [bucket]).is_admitted for _ in range(6)]

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

    @pytest.fixture
    def asked(self, monkeypatch):
        """How many were asked for, each time Redis was."""
        wanted = []
        measure = limits._measure

        def counting(buckets, count):
            wanted.append(count)
            return measure(buckets, count)

        monkeypatch.setattr(limits, "_measure", counting)
        return wanted

    def buckets(self, burst=10_000):
        return [limits._Bucket(f"kassa:rate:{{{new_id()}}}", 0.001, burst)]

    def take(self, reserve, buckets, count):
        return [reserve.take(lambda: buckets) for _ in range(count)]

    def test_grows_while_it_runs_out_in_time_and_is_bounded(self, asked, clock):
        reserve = limits._Reserve()

        rates = self.take(reserve, self.buckets(), 1 + 2 + 4 + 8 + 16 + 32 + 32 + 1)

        assert asked == [1, 2, 4, 8, 16, 32, 32, 32]
        assert [rate.remaining for rate in rates] == [9_999 - n for n in range(len(rates))]

    def test_is_a_small_share_of_the_burst(self, asked, clock):
        self.take(limits._Reserve(), self.buckets(burst=200), 30)

        assert max(asked) == 4

    def test_is_forfeited_when_its_time_is_over(self, asked, clock):
        reserve, buckets = limits._Reserve(), self.buckets()
        self.take(reserve, buckets, 1 + 2 + 4 + 3)
        # A little more: of two floats so far from zero the sum may be the smaller one.
        clock.now += 1.01 * limits._RESERVE_SECONDS

        [rate] = self.take(reserve, buckets, 1)

        # Three of eight were handed out; the other five are gone, and three are asked for.
        assert asked == [1, 2, 4, 8, 3]
        assert rate.remaining == 10_000 - (1 + 2 + 4 + 8) - 1

    def test_ends_exactly_at_the_limit(self, asked, clock):
        reserve, buckets = limits._Reserve(), self.buckets(burst=500)

        rates = self.take(reserve, buckets, 502)

        assert [rate.is_admitted for rate in rates] == [True] * 500 + [False] * 2
        assert [rate.remaining for rate in rates[-5:]] == [2, 1, 0, 0, 0]
        # The last one was refused without asking again.
        assert asked[-2:] == [10, 2]

    def test_what_was_refused_is_refused_again_without_asking_until_something_can_come(
        self, asked, clock
    ):
        reserve, buckets = limits._Reserve(), self.buckets(burst=2)

        rates = self.take(reserve, buckets, 50)

        assert [rate.is_admitted for rate in rates] == [True] * 2 + [False] * 48
        assert len({rate.retry_seconds for rate in rates[2:]}) == 1
        # Two that fitted, one that did not.
        assert len(asked) == 3
        clock.now += limits._RESERVE_SECONDS
        self.take(reserve, buckets, 5)
        assert len(asked) == 4

    def test_of_many_keys_is_forgotten_once_over(self, monkeypatch, clock):
        monkeypatch.setattr(limits, "_LOCAL_BUCKETS_MAX", 3)
        reserves = limits._Reserves()
        for _ in range(10):
            self.take(reserves.of(new_id(), "write"), self.buckets(), 1)
            clock.now += limits._RESERVE_SECONDS

        assert len(reserves._found) <= 3

    def test_of_many_keys_is_forgotten_while_another_thread_adds_its_own(self, monkeypatch, clock):
        monkeypatch.setattr(limits, "_LOCAL_BUCKETS_MAX", 3)
        reserves = limits._Reserves()
        for _ in range(3):
            reserves.of(new_id(), "write")

        def now():
            # Between two looks at what is over, as a thread that found room there does.
            reserves._found.setdefault((new_id(), "read"), limits._Reserve())
            return clock.now

        monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=now))

        assert not reserves.of(new_id(), "write")._held


@pytest.mark.usefixtures("clock")
class TestReserveTogether:
    """Requests of many keys that came together are counted in one trip."""

    @pytest.fixture
    def trips(self, monkeypatch):
        """What each key's wanted number was, a list for each trip."""
        made = []
        together = limits._ask_together

        def counting(asking):
            made.append([question.wanted for question in asking])
            together(asking)

        monkeypatch.setattr(limits, "_ask_together", counting)
        return made

    @pytest.fixture
    def singly(self, monkeypatch):
        """How often Redis was asked about one key alone."""
        made = []
        measure = limits._measure

        def counting(buckets, count=1):
            made.append(count)
            return measure(buckets, count)

        monkeypatch.setattr(limits, "_measure", counting)
        return made

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

    def test_what_waits_of_each_key_is_counted_at_once_and_handed_out(
        self, trips, singly, settings
    ):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 3, 40)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 999, 998, 997, *range(999, 959, -1)]
        assert (trips, singly) == ([[1, 3, 40]], [])

    def test_no_more_than_the_limit_is_granted_and_who_is_beyond_it_is_refused(
        self, trips, settings
    ):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 5
        callers = self.callers(7, 5, 1)

        limits.reserve(callers, kind="write")

        refused = ["rate_limited"] * 2
        assert self.admitted(callers) == [4, 3, 2, 1, 0, *refused, 4, 3, 2, 1, 0, 4]
        assert trips == [[7, 5, 1]]

    def test_what_is_in_hand_is_not_asked_for_again(self, trips, singly, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(2, 1)
        limits.reserve(callers, kind="write")

        limits.reserve(callers, kind="write")

        assert trips == [[2, 1], []]
        assert self.admitted(callers) == [999, 998, 999]
        assert singly == []

    def test_one_key_alone_is_left_to_its_own_reserve(self, trips, singly, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(3)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 998, 997]
        assert (trips, singly) == ([], [1, 2])

    def test_where_redis_has_no_script_yet_each_asks_for_itself(self, singly, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 2)
        _client, script = limits._script(settings.CACHE_URL)
        # As after a restart: Redis knows none by the digest that we have.
        script.sha = "0" * 40

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [999, 999, 998]
        assert singly[0] == 1

    def test_without_redis_the_process_counts(self, without_redis, singly, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.1, 5
        settings.WEB_PROCESSES = 1
        callers = self.callers(6, 1)

        limits.reserve(callers, kind="write")

        assert self.admitted(callers) == [4, 3, 2, 1, 0, "rate_limited", 4]
        # It is left alone for a moment after its failure.
        assert singly == []

    def test_one_that_another_thread_asks_about_is_not_waited_for(self, trips, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 1_000
        callers = self.callers(1, 1, 1)
        busy = limits._reserves.of(callers[0].api_key_id, "write")
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

    def test_redis_is_not_asked_again_at_once(self, api, route, without_redis):
        assert api.get(route).status_code == 200
        rests_until = limits._redis._rests_until
        for _ in range(5):
            assert api.get(route).status_code == 200

        # Each further failure would have moved it on.
        assert limits._redis._rests_until == rests_until > 0


class TestAtOnce:
    def test_a_place_is_given_back_also_by_a_fault(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        api.client.raise_request_exception = False

        assert [api.get(route).json() for _ in range(3)] == [{"under_way": 1}] * 3
        assert api.post(route, {}).status_code == 500
        assert not places._in_flight

    def test_one_more_than_allowed_is_429(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX, settings.WEB_PROCESSES = 4, 2
        places._in_flight[str(api.key.id)] = 2

        refused = api.get(route)
        places._in_flight[str(api.key.id)] = 1
        taken = api.get(route)
        del places._in_flight[str(api.key.id)]

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert taken.status_code == 200

    def test_another_key_is_not_held_up(self, api, route, settings):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        places._in_flight[str(issue_key(api.organization).key.id)] = 1

        assert api.get(route).status_code == 200
        places._in_flight.clear()

    def test_an_organization_leaves_threads_to_others_by_however_many_keys(
        self, api, route, settings
    ):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        settings.WEB_THREADS = 4
        places._on_threads[str(api.organization.id)] = 2

        refused = Api(api.organization, "a:read").get(route)
        other = Api(create_organization(), "a:read").get(route)
        places._on_threads[str(api.organization.id)] = 1
        taken = api.get(route)

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert (other.status_code, taken.status_code) == (200, 200)
        assert places._on_threads == {str(api.organization.id): 1}
        assert not places._in_flight
        places._on_threads.clear()
