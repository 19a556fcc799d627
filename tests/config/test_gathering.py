"""What gathers by key: every request is told its answer, whatever befalls the thread it was on."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from uuid import NAMESPACE_OID, uuid5

import pytest

from apps.core.api.problems import ApiProblem
from apps.core.ids import new_id
from config import gathering, pacing, turns
from config.bodies import Body, Room
from config.express import Answer, ExpressLane, Part
from config.gathering import Gathering
from config.turns import Crowded, Failed

pytestmark = pytest.mark.django_db(transaction=True)


class Named(dict):
    """The headers of a request, as granian has them."""

    def get_all(self, key: str) -> list[str]:
        return [self[key]] if key in self else []


@dataclass
class Asked:
    """What is known of a request before its body."""

    key: str
    name: str
    headers: Named = field(init=False)
    method: str = "POST"
    path: str = "/v1/transfers"
    query_string: str = ""
    scheme: str = "http"
    http_version: str = "1.1"
    client: str = "127.0.0.1:1"
    server: str = "127.0.0.1:2"

    def __post_init__(self):
        self.headers = Named({"authorization": self.key, "x-name": self.name})


class Lane(ExpressLane):
    """
    Answers with the name of each request, once it may; a key's requests are one part,
    of an organization of its own.

    It remembers what was admitted together, and what was answered together.
    """

    def __init__(self):
        super().__init__()
        self.admitted: list[list[str]] = []
        self.batches: list[list[str]] = []
        # The keys of parts that were not begun.
        self.given_up: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        # Keys whose parts wait until they are let go.
        self.stuck: dict[str, threading.Event] = {}
        # Whose some keys are.
        self.organizations = {}
        self.seconds = 0.0

    def admit(self, environs):
        self.admitted.append([environ["HTTP_X_NAME"] for environ in environs])
        if any(environ["HTTP_X_NAME"] == "not admitted" for environ in environs):
            raise SystemExit
        places: dict[str, list[int]] = {}
        for place, environ in enumerate(environs):
            places.setdefault(environ["HTTP_AUTHORIZATION"], []).append(place)
        return [
            Part(
                self.organizations.get(key) or uuid5(NAMESPACE_OID, key),
                its,
                partial(self.work, key, [environs[place]["HTTP_X_NAME"] for place in its]),
                partial(self.given_up.append, key),
            )
            for key, its in places.items()
        ]

    def work(self, key, names):
        self.batches.append(names)
        threading.Event().wait(self.seconds)
        assert self.may_go_on.wait(20)
        if key in self.stuck:
            assert self.stuck[key].wait(20)
        if "ends" in names:
            raise SystemExit
        return [None if name == "other" else Answer(201, [], name.encode()) for name in names]


@pytest.fixture
def lane():
    return Lane()


@pytest.fixture
def patient(monkeypatch):
    """Nothing is slow: what waits for a lane that may not go on yet is left to its threads."""
    monkeypatch.setattr(gathering, "_SLOW_SECONDS", 60)


async def ask(gathered: Gathering, key: str, name: str):
    asked = Asked(key, name)
    answer = await gathered.answer(asked, Body(asked, None, Room(), is_for_lane=True))
    return answer and answer.body.decode()


class Broken(Body):
    """A body that the server cannot give, for whatever reason."""

    def find(self):
        raise MemoryError


async def settled():
    for _ in range(20):
        await asyncio.sleep(0.005)


async def until(holds):
    while not holds():  # noqa: ASYNC110 - nobody is told what a thread of the lane does
        await asyncio.sleep(0.005)


def run(lane, scenario, *, threads=2):
    gathered = Gathering(lane, threads=threads)

    async def bounded():
        async with asyncio.timeout(20):
            return await scenario(gathered)

    # On a thread of its own: the browser's driver has a loop running on this one.
    with ThreadPoolExecutor(1) as loop:
        try:
            answered = loop.submit(asyncio.run, bounded()).result()
        finally:
            gathered.close()
    # Nothing is left: what would be counted on would be waited for in vain, turn by turn.
    assert (gathered._waits, gathered._waiting, list(gathered._line)) == (0, {}, [])
    return answered


def test_what_comes_while_a_thread_is_at_it_is_one_batch_and_each_is_told_its_own(lane, patient):
    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "0"))
        await settled()
        others = [asyncio.create_task(ask(gathered, "k", str(n))) for n in range(1, 6)]
        await settled()
        lane.may_go_on.set()
        return await asyncio.gather(first, *others)

    assert run(lane, scenario) == ["0", "1", "2", "3", "4", "5"]
    assert lane.batches == [["0"], ["1", "2", "3", "4", "5"]]


class TestAfterATurnOfThree:
    """The next one waits for as many, since they may all ask again as soon as they are answered."""

    @pytest.fixture
    def asked(self, lane, patient):
        """Have three answered together, then what the test asks; return all batches behind them."""

        def run_all(scenario):
            async def after_three(gathered):
                lane.may_go_on.clear()
                tasks = [asyncio.create_task(ask(gathered, "k", "first"))]
                await settled()
                tasks += [asyncio.create_task(ask(gathered, "k", str(n))) for n in range(3)]
                await settled()
                lane.may_go_on.set()
                await asyncio.gather(*tasks)
                await scenario(gathered)

            run(lane, after_three)
            assert lane.batches[:2] == [["first"], ["0", "1", "2"]]
            return lane.batches[2:]

        return run_all

    def test_three_are_one_turn_however_they_come(self, lane, asked, monkeypatch):
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        async def scenario(gathered):
            two = [asyncio.create_task(ask(gathered, key, key)) for key in ("k", "other")]
            await settled()
            assert len(lane.batches) == 2
            assert await ask(gathered, "k", "again") == "again"
            await asyncio.gather(*two)

        asked(scenario)
        assert lane.admitted[2:] == [["k", "again", "other"]]

    def test_who_waits_behind_a_thread_at_work_is_not_counted(self, lane, asked, monkeypatch):
        """The thread that gathers could not take them."""
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        async def scenario(gathered):
            lane.stuck["other"] = threading.Event()
            gathered._ended -= 60
            stuck = [asyncio.create_task(ask(gathered, "other", "stuck"))]
            await until(lambda: ["stuck"] in lane.batches)
            gathered._had, gathered._had_keys = 3, frozenset({"k"})
            gathered._ended += 60
            counted = [asyncio.create_task(ask(gathered, "k", name)) for name in ("a", "b")]
            await settled()
            stuck += [asyncio.create_task(ask(gathered, "other", str(n))) for n in range(3)]
            await settled()
            assert lane.admitted[2:] == [["stuck"]]
            # One thread is at work, and the other one only gathers.
            assert not gathered.keeps_waiting(Asked("k", "c"))
            assert gathered.keeps_waiting(Asked("other", "more"))
            counted.append(asyncio.create_task(ask(gathered, "k", "c")))
            await asyncio.gather(*counted)
            assert lane.admitted[3] == ["a", "b", "c"]
            lane.stuck["other"].set()
            await asyncio.gather(*stuck)

        asked(scenario)

    def test_fewer_wait_for_a_moment(self, asked, monkeypatch):
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 0.1)

        async def scenario(gathered):
            assert await ask(gathered, "k", "alone") == "alone"

        assert asked(scenario) == [["alone"]]

    def test_another_key_has_nobody_to_wait_for(self, asked, monkeypatch):
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        async def scenario(gathered):
            assert await ask(gathered, "quiet", "quiet") == "quiet"

        assert asked(scenario) == [["quiet"]]

    def test_without_memory_to_wait_those_that_are_there_are_answered(self, asked, monkeypatch):
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        def wait(_seconds):
            raise MemoryError

        async def scenario(gathered):
            monkeypatch.setattr(gathered._are_enough, "wait", wait)
            assert await ask(gathered, "k", "alone") == "alone"

        assert asked(scenario) == [["alone"]]

    def test_whoever_comes_later_waits_for_nobody(self, asked, monkeypatch):
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        async def scenario(gathered):
            gathered._ended -= 60
            assert await ask(gathered, "k", "later") == "later"

        assert asked(scenario) == [["later"]]


class TestWhoKeepsWaiting:
    """Whose body may come meanwhile: who is sure to wait for a thread at work."""

    def keeps_waiting(self, gathered, *keys):
        return [gathered.keeps_waiting(Asked(key, "asked")) for key in keys]

    def test_is_whose_key_is_at_work(self, lane, patient):
        async def scenario(gathered):
            assert self.keeps_waiting(gathered, "k") == [False]
            lane.may_go_on.clear()
            first = asyncio.create_task(ask(gathered, "k", "first"))
            await until(lambda: lane.batches)
            assert self.keeps_waiting(gathered, "k", "other") == [True, False]
            lane.may_go_on.set()
            await first
            assert self.keeps_waiting(gathered, "k") == [False]

        run(lane, scenario)

    def test_is_everybody_while_no_thread_is_free(self, lane, patient):
        async def scenario(gathered):
            lane.may_go_on.clear()
            tasks = []
            for place, key in enumerate(("k", "l"), 1):
                tasks.append(asyncio.create_task(ask(gathered, key, key)))
                await until(lambda place=place: len(lane.batches) == place)
            assert self.keeps_waiting(gathered, "k", "l", "other") == [True, True, True]
            lane.may_go_on.set()
            await asyncio.gather(*tasks)

        run(lane, scenario)

    def test_is_not_the_one_that_a_thread_waits_for(self, lane, patient, monkeypatch):
        """It is taken as soon as it is counted, so it must be here by then."""
        monkeypatch.setattr(gathering, "_GATHER_SECONDS", 60)

        async def scenario(gathered):
            lane.may_go_on.clear()
            tasks = [asyncio.create_task(ask(gathered, "k", "first"))]
            await until(lambda: lane.batches)
            tasks += [asyncio.create_task(ask(gathered, "k", name)) for name in ("a", "b")]
            await settled()
            lane.may_go_on.set()
            await asyncio.gather(*tasks)
            waits = asyncio.create_task(ask(gathered, "k", "c"))
            await settled()
            assert lane.batches == [["first"], ["a", "b"]]
            assert self.keeps_waiting(gathered, "k") == [False]
            assert await ask(gathered, "k", "d") == "d"
            await waits

        run(lane, scenario)


def test_what_is_djangos_is_told_so_and_its_neighbours_are_answered(lane):
    async def scenario(gathered):
        return await asyncio.gather(*(ask(gathered, "k", name) for name in ("a", "other", "b")))

    assert run(lane, scenario) == ["a", None, "b"]


def test_keys_that_are_never_idle_leave_turns_to_others(lane, monkeypatch):
    monkeypatch.setattr(gathering, "_TURN_SECONDS", 0.01)
    lane.seconds = 0.005
    busy = True

    async def scenario(gathered):
        nonlocal busy

        async def keep_busy(key):
            while busy:
                await ask(gathered, key, "busy")

        # Three of each, so that something always waits when a batch is done.
        others = [asyncio.create_task(keep_busy(f"k{n % 4}")) for n in range(12)]
        await settled()
        served = len(lane.batches)
        answer = await ask(gathered, "quiet", "quiet")
        between = len(lane.batches) - served
        busy = False
        await asyncio.gather(*others)
        return answer, between

    answer, between = run(lane, scenario, threads=2)

    assert answer == "quiet"
    # Four keys had a turn of a few batches each before it, on two threads.
    assert between < 40


def test_what_waits_under_many_keys_is_admitted_together_and_answered_key_by_key(lane, patient):
    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        others = [asyncio.create_task(ask(gathered, f"k{n % 3}", str(n))) for n in range(6)]
        await settled()
        lane.may_go_on.set()
        return await asyncio.gather(first, *others)

    assert run(lane, scenario, threads=1) == ["first", "0", "1", "2", "3", "4", "5"]
    # All that waited, first come first served.
    assert lane.admitted == [["first"], ["0", "3", "1", "4", "2", "5"]]
    assert lane.batches == [["first"], ["0", "3"], ["1", "4"], ["2", "5"]]


def test_a_turn_takes_so_many_keys_and_requests_and_the_others_have_the_next(
    lane, patient, monkeypatch
):
    monkeypatch.setattr(gathering, "_KEYS_MAX", 2)
    monkeypatch.setattr(gathering, "_BATCH_MAX", 3)

    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        names = ["a0", "a1", "b0", "b1", "c0"]
        others = [asyncio.create_task(ask(gathered, name[0], name)) for name in names]
        await settled()
        lane.may_go_on.set()
        return await asyncio.gather(first, *others)

    assert run(lane, scenario, threads=1) == ["first", "a0", "a1", "b0", "b1", "c0"]
    # What was left of b lined up anew, behind c.
    assert lane.admitted == [["first"], ["a0", "a1", "b0"], ["c0", "b1"]]


def test_a_busy_key_has_a_turn_of_its_own(lane, patient, monkeypatch):
    monkeypatch.setattr(gathering, "_BUSY_MIN", 3)

    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        names = ["a0", "b0", "b1", "b2", "c0", "a1", "d0"]
        others = [asyncio.create_task(ask(gathered, name[0], name)) for name in names]
        await settled()
        lane.may_go_on.set()
        return await asyncio.gather(first, *others)

    assert run(lane, scenario, threads=1) == ["first", "a0", "b0", "b1", "b2", "c0", "a1", "d0"]
    assert lane.admitted == [["first"], ["a0", "a1"], ["b0", "b1", "b2"], ["c0", "d0"]]


@pytest.mark.parametrize("waiting", [1, 2, 3], ids=["one", "two", "three"])
def test_what_waits_for_something_keeps_no_other_key_waiting(lane, waiting):
    """With two threads at work: answers before it are told, parts and keys behind it go on."""
    for n in range(waiting):
        lane.stuck[f"stuck{n}"] = threading.Event()

    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        # Taken together: answered before what is stuck, stuck, and behind it.
        keys = ["before", *lane.stuck, "behind"]
        tasks = {key: asyncio.create_task(ask(gathered, key, key)) for key in keys}
        await settled()
        lane.may_go_on.set()
        answered = await asyncio.gather(first, tasks["before"], tasks["behind"])
        # And whoever comes meanwhile.
        answered += await asyncio.gather(*(ask(gathered, f"later{n}", "later") for n in range(4)))
        late = [asyncio.create_task(ask(gathered, key, "late")) for key in lane.stuck]
        await settled()
        told = [task.done() for task in (*late, *(tasks[key] for key in lane.stuck))]
        for let_go in lane.stuck.values():
            let_go.set()
        answered += await asyncio.gather(*(tasks[key] for key in lane.stuck), *late)
        return answered, told

    answered, told = run(lane, scenario, threads=6)

    assert answered[:3] == ["first", "before", "behind"]
    assert answered[3:7] == ["later"] * 4
    assert told == [False] * 2 * waiting
    assert answered[7:] == [*lane.stuck, *["late"] * waiting]
    # A key is at one thread at a time: what came while it was stuck was its next batch.
    assert lane.batches.count(["late"]) == waiting


def test_one_organization_keeps_no_other_waiting_by_however_many_keys(lane, monkeypatch):
    """It asks by each of as many keys as there are threads for what waits."""
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 600)
    its = new_id()
    for n in range(6):
        lane.organizations[f"its{n}"] = its
        lane.stuck[f"its{n}"] = threading.Event()

    def put_off(gathered):
        return len(gathered._pacing._waiting.get(its, ()))

    async def scenario(gathered):
        tasks = []
        for key in lane.stuck:
            tasks.append(asyncio.create_task(ask(gathered, key, key)))
            await until(lambda: len(lane.batches) + put_off(gathered) == len(tasks))
        quiet = await asyncio.gather(*(ask(gathered, f"k{n}", "quiet") for n in range(4)))
        begun = [names for names in lane.batches if names != ["quiet"]]
        lane.stuck["its0"].set()
        answered = [await tasks[0]]
        # What was put off first is next.
        await until(lambda: lane.batches[-1] == ["its2"])
        for let_go in lane.stuck.values():
            let_go.set()
        answered += await asyncio.gather(*tasks[1:])
        return quiet, begun, answered, await ask(gathered, "its0", "later")

    quiet, begun, answered, later = run(lane, scenario, threads=6)

    assert quiet == ["quiet"] * 4
    assert begun == [["its0"], ["its1"]]
    assert answered == list(lane.stuck)
    assert later == "later"


def test_of_one_key_no_more_waits_than_may_be_under_way_at_once(lane, patient, settings):
    settings.API_IN_FLIGHT_MAX, settings.WEB_PROCESSES = 5, 2

    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "Bearer k", "first"))
        await until(lambda: lane.batches)
        waiting = [asyncio.create_task(ask(gathered, "bearer k", str(n))) for n in range(2)]
        await until(lambda: len(gathered._waiting["k"]) == 2)
        for key in ("Bearer k", "BEARER k"):
            with pytest.raises(ApiProblem, match="under way"):
                await ask(gathered, key, "too many")
        other = asyncio.create_task(ask(gathered, "Bearer other", "quiet"))
        lane.may_go_on.set()
        answered = await asyncio.gather(first, *waiting, other)
        return answered, await ask(gathered, "Bearer k", "later")

    assert run(lane, scenario) == (["first", "0", "1", "quiet"], "later")


def test_organizations_that_were_slow_leave_threads_to_all_others(lane, monkeypatch):
    """Ten of them, more than there are threads: each is stuck once, then all of them at once."""
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 0)
    monkeypatch.setattr(pacing, "_SLOW_FOR_SECONDS", 600)
    keys = [f"stuck{n}" for n in range(10)]

    async def stuck_once(gathered, key):
        lane.stuck[key] = threading.Event()
        asked = asyncio.create_task(ask(gathered, key, key))
        while uuid5(NAMESPACE_OID, key) not in gathered._pacing._slow_until:  # noqa: ASYNC110  (no event)
            await asyncio.sleep(0.005)
        lane.stuck[key].set()
        await asked

    async def scenario(gathered):
        for key in keys:
            await stuck_once(gathered, key)
            lane.stuck[key] = threading.Event()
        late = [asyncio.create_task(ask(gathered, key, key)) for key in keys]
        await settled()
        others = [await ask(gathered, f"other{n}", "other key") for n in range(5)]
        begun = sum(len(batch) for batch in lane.batches if batch[0] in keys)
        for let_go in lane.stuck.values():
            let_go.set()
        return others, begun, await asyncio.gather(*late)

    others, begun, late = run(lane, scenario, threads=6)

    assert others == ["other key"] * 5
    # Half of the six threads, besides the ten of before.
    assert begun == 10 + 3
    assert late == keys


def test_a_thread_that_is_ended_while_admitting_fails_what_it_took_and_the_keys_go_on(
    lane, patient
):
    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        taken = [
            asyncio.create_task(ask(gathered, key, name))
            for key, name in (("a", "not admitted"), ("b", "b"))
        ]
        await settled()
        lane.may_go_on.set()
        failed = await asyncio.gather(*taken, return_exceptions=True)
        return [
            await first,
            *failed,
            await ask(gathered, "a", "next"),
            await ask(gathered, "b", "b"),
        ]

    first, *failed, a, b = run(lane, scenario, threads=1)

    assert [type(one) for one in failed] == [Failed] * 2
    assert (first, a, b) == ("first", "next", "b")


def test_a_part_that_ends_its_thread_fails_alone(lane, patient):
    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        taken = [asyncio.create_task(ask(gathered, key, key)) for key in ("a", "ends", "b")]
        await settled()
        lane.may_go_on.set()
        return [await first, *await asyncio.gather(*taken, return_exceptions=True)]

    first, a, ends, b = run(lane, scenario, threads=1)

    assert (first, a, b) == ("first", "a", "b")
    assert isinstance(ends, Failed)


def test_a_thread_that_is_ended_fails_its_batch_and_the_key_goes_on(lane):
    async def scenario(gathered):
        with pytest.raises(Failed):
            await ask(gathered, "k", "ends")
        return await ask(gathered, "k", "next")

    assert run(lane, scenario, threads=1) == "next"


def test_what_has_waited_too_long_is_not_begun(lane, monkeypatch):
    monkeypatch.setattr(turns, "_WAIT_SECONDS_MAX", 0.5)

    async def scenario(gathered):
        lane.may_go_on.clear()
        first = asyncio.create_task(ask(gathered, "k", "first"))
        await settled()
        late = [asyncio.create_task(ask(gathered, "k", "late")) for _ in range(3)]
        await asyncio.sleep(0.6)
        fresh = asyncio.create_task(ask(gathered, "k", "fresh"))
        await asyncio.sleep(0.01)
        lane.may_go_on.set()
        return await asyncio.gather(first, *late, fresh, return_exceptions=True)

    first, *late, fresh = run(lane, scenario)

    assert (first, fresh) == ("first", "fresh")
    assert [type(answer) for answer in late] == [Crowded] * 3
    assert lane.batches == [["first"], ["fresh"]]


def test_while_the_process_ends_nobody_waits_for_ever(lane):
    async def scenario(gathered):
        closing = ThreadPoolExecutor(1)
        await asyncio.get_running_loop().run_in_executor(closing, gathered.close)
        for _ in range(2):
            with pytest.raises(Crowded):
                await ask(gathered, "k", "late")

    run(lane, scenario)
    assert lane.batches == []


def test_whom_no_thread_can_be_had_for_is_told_so_and_the_next_one_is_answered(lane, monkeypatch):
    async def scenario(gathered):
        with monkeypatch.context() as patch:
            patch.setattr(gathered._pool, "submit", refuse)
            with pytest.raises(Crowded):
                await ask(gathered, "k", "refused")
        return await ask(gathered, "k", "next")

    def refuse(_work):
        raise RuntimeError("can't start new thread")

    assert run(lane, scenario) == "next"
    assert lane.batches == [["next"]]


def its_keys(lane, number):
    """Return keys of one organization, each of which waits until it is let go."""
    its = new_id()
    keys = [f"its{n}" for n in range(number)]
    for key in keys:
        lane.organizations[key] = its
        lane.stuck[key] = threading.Event()
    return its, keys


async def kept_back(gathered, lane, its, keys):
    """Have all keys ask: the first two are at work then, and the others kept back."""
    tasks = []
    for key in keys[:2]:
        tasks.append(asyncio.create_task(ask(gathered, key, key)))
        await until(lambda: len(lane.batches) == len(tasks))
    tasks += [asyncio.create_task(ask(gathered, key, key)) for key in keys[2:]]
    await until(lambda: len(gathered._pacing._waiting.get(its, ())) == len(keys) - 2)
    return tasks


def test_what_was_kept_back_too_long_is_not_begun(lane, monkeypatch):
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 600)
    its, keys = its_keys(lane, 4)

    async def scenario(gathered):
        tasks = await kept_back(gathered, lane, its, keys)
        monkeypatch.setattr(turns, "_WAIT_SECONDS_MAX", -1)
        for let_go in lane.stuck.values():
            let_go.set()
        answered = await asyncio.gather(*tasks, return_exceptions=True)
        monkeypatch.setattr(turns, "_WAIT_SECONDS_MAX", 15)
        return answered, await ask(gathered, keys[3], "again")

    answered, again = run(lane, scenario, threads=6)

    assert answered[:2] == keys[:2]
    assert [type(one) for one in answered[2:]] == [Crowded] * 2
    assert lane.given_up == keys[2:]
    assert lane.batches == [["its0"], ["its1"], ["again"]]
    assert again == "again"


def test_while_the_process_ends_what_was_kept_back_is_answered_however_much_it_is(
    lane, monkeypatch
):
    """By the thread that is there: no piece waits within the one before it."""
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 600)
    its, keys = its_keys(lane, 400)

    async def scenario(gathered):
        tasks = await kept_back(gathered, lane, its, keys)
        closing = ThreadPoolExecutor(1)
        ended = asyncio.get_running_loop().run_in_executor(closing, gathered.close)
        # The lane's own threads end first.
        for key in keys[:2]:
            lane.stuck[key].set()
        await until(lambda: gathered._spare._shutdown)
        for let_go in lane.stuck.values():
            let_go.set()
        await ended
        return await asyncio.gather(*tasks)

    assert run(lane, scenario, threads=6) == keys


def test_what_no_thread_could_be_had_for_is_answered_once(lane, monkeypatch):
    """The pool keeps what it was given, though it says that there is no thread for it."""
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 600)
    its, keys = its_keys(lane, 4)

    async def scenario(gathered):
        tasks = await kept_back(gathered, lane, its, keys)
        submit = gathered._spare.submit

        def submit_in_vain(*given):
            submit(*given)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(gathered._spare, "submit", submit_in_vain)
        for let_go in lane.stuck.values():
            let_go.set()
        answered = await asyncio.gather(*tasks)
        return answered, await ask(gathered, keys[0], "later")

    assert run(lane, scenario, threads=6) == (keys, "later")
    assert sorted(lane.batches) == [["its0"], ["its1"], ["its2"], ["its3"], ["later"]]


def test_a_body_that_cannot_be_looked_at_fails_its_turn_and_not_its_key(lane):
    async def scenario(gathered):
        asked = Asked("one", "broken")
        with pytest.raises(Failed):
            await gathered.answer(asked, Broken(asked, None, Room(), is_for_lane=True))
        assert await ask(gathered, "one", "next") == "next"
        # Its thread lets go after the last answer.
        await until(lambda: not gathered._turns and not gathered._serving)

    run(lane, scenario)
