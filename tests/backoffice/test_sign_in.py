"""Signing in: who does, who guesses, and what each of them costs."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.sessions.backends.db import SessionStore
from django.core.signing import get_cookie_signer
from django.db import OperationalError, connection
from django.test import Client

from apps.accounts.models import Staff
from apps.backoffice import views
from apps.backoffice.views.browsers import find_browser
from apps.core import counters, passwords
from apps.core.ids import new_id
from tests.accounts.factories import PASSWORD, create_staff
from tests.support import wait_until

pytestmark = pytest.mark.django_db

URL = "/admin/login/"


class Counting(MD5PasswordHasher):
    """Says how often anything was hashed."""

    calls = 0

    def encode(self, password, salt):
        type(self).calls += 1
        return super().encode(password, salt)


@pytest.fixture(autouse=True)
def limits(settings):
    settings.SIGN_INS_OF_NAME_MAX, settings.SIGN_INS_OF_ADDRESS_MAX = 20, 100
    settings.WEB_PROCESSES = 1
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]
    Counting.calls = 0


@pytest.fixture
def person():
    person = create_staff("support")
    # A name that no earlier run has guessed at.
    Staff.objects.filter(pk=person.pk).update(email=f"{new_id()}@kassa.test")
    person.refresh_from_db()
    Counting.calls = 0
    return person


def somewhere():
    """Return an address that nobody has called from, a /64 of its own."""
    groups = re.findall("....", new_id().hex[-12:])
    return f"2001:{':'.join(groups)}::1"


def sign_in(name, password=PASSWORD, *, address=None, client=None):
    form = {"username": name, "password": password, "next": "/admin/"}
    return (client or Client()).post(URL, form, REMOTE_ADDR=address or somewhere())


def guess(name, times, **where):
    return [sign_in(name, "a wrong password", **where).status_code for _ in range(times)]


def shown(response):
    """Return the page without what differs from one to the next in any case."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", response.content.decode())
    return re.sub(r'name="username"[^>]*value="[^"]*"', "", text)


class TestSigningIn:
    def test_lets_in_who_knows_the_password(self, person):
        client = Client()

        answer = sign_in(f" {person.email.upper()} ", client=client)

        assert (answer.status_code, answer["Location"]) == (302, "/admin/")
        assert client.get("/admin/").status_code == 200

    def test_does_not_tell_a_wrong_name_from_a_wrong_password(self, person):
        hashes = []
        answers = []
        for name in (person.email, f"{new_id()}@kassa.test"):
            before = Counting.calls
            answers.append(sign_in(name, "a wrong password"))
            hashes.append(Counting.calls - before)

        assert [answer.status_code for answer in answers] == [200, 200]
        assert shown(answers[0]) == shown(answers[1])
        assert "do not fit" in answers[0].content.decode()
        assert hashes == [1, 1]

    @pytest.mark.parametrize("charset", ["utf-7", "bz2_codec"])
    def test_by_a_form_in_another_charset_is_refused_on_a_page(self, charset, settings):
        client = Client(enforce_csrf_checks=True)
        client.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32

        form = f"application/x-www-form-urlencoded; charset={charset}"
        answer = client.generic("POST", URL, b"username=a", content_type=form)

        assert answer.status_code == 400
        assert "<h1>That did not work</h1>" in answer.content.decode()

    def test_is_counted(self, person, metrics_folder):
        sign_in(person.email)
        guess(person.email, 20)

        counted = counters.read()
        assert counted['kassa_sign_ins_total{outcome="signed_in"}'] == 1
        assert counted['kassa_sign_ins_total{outcome="failed"}'] == 19
        assert counted['kassa_sign_ins_total{outcome="limited"}'] == 1


class TestGuessing:
    @pytest.mark.parametrize("exists", [True, False])
    def test_at_a_name_ends_with_the_twentieth_try_of_an_hour(self, person, exists):
        name = person.email if exists else f"{new_id()}@kassa.test"
        # In whatever way it is written, and from wherever.
        tried = [*guess(name.upper(), 10), *guess(f" {name}", 10)]

        refused = sign_in(name)

        assert tried == [200] * 20
        assert refused.status_code == 429
        assert 3_500 < int(refused["Retry-After"]) <= 3_600
        assert "too many tries" in refused.content.decode()
        assert refused["Cache-Control"] == "no-store"
        assert Counting.calls == 20

    def test_at_a_name_leaves_others_to_their_address_up_to_its_own_limit(self, person):
        address = somewhere()
        guess(person.email, 21, address=address)
        others = [guess(f"{new_id()}@kassa.test", 1, address=address)[0] for _ in range(80)]

        refused = sign_in(f"{new_id()}@kassa.test", address=address)

        # The refused try was in no count.
        assert others == [200] * 80
        assert refused.status_code == 429
        assert Counting.calls == 100

    def test_is_counted_for_the_whole_of_an_ipv6_network(self, settings, person):
        settings.SIGN_INS_OF_ADDRESS_MAX = 2
        network = somewhere()[:-1]

        tried = [
            guess(f"{new_id()}@kassa.test", 1, address=f"{network}{host}")[0] for host in "123"
        ]

        assert tried == [200, 200, 429]

    def test_goes_by_the_address_that_our_own_proxy_names(self, settings):
        settings.SIGN_INS_OF_ADDRESS_MAX, settings.OWN_PROXIES = 1, 1
        real = somewhere()

        tried = [
            Client()
            .post(
                URL,
                {"username": f"{new_id()}@kassa.test", "password": "wrong"},
                headers={"X-Forwarded-For": f"{forged}, {real}"},
            )
            .status_code
            for forged in ("192.0.2.1", "192.0.2.2")
        ]

        assert tried == [200, 429]

    def test_is_not_forgotten_by_signing_in(self, settings, person):
        settings.SIGN_INS_OF_ADDRESS_MAX = 3
        address = somewhere()
        guess(f"{new_id()}@kassa.test", 2, address=address)

        assert sign_in(person.email, address=address).status_code == 302
        assert sign_in(person.email, address=address).status_code == 429

    def test_elsewhere_does_not_shut_out_a_browser_that_is_known(self, person):
        known = Client()
        sign_in(person.email, client=known)
        known.post("/admin/logout/")
        guess(person.email, 20)

        assert sign_in(person.email).status_code == 429
        assert sign_in(person.email, client=known).status_code == 302

    def test_from_the_same_address_does_not_shut_it_out_either(self, settings, person):
        settings.SIGN_INS_OF_ADDRESS_MAX = 3
        office, known = somewhere(), Client()
        sign_in(person.email, client=known, address=office)
        known.post("/admin/logout/")
        guess(f"{new_id()}@kassa.test", 3, address=office)

        assert sign_in(person.email, address=office).status_code == 429
        assert sign_in(person.email, client=known, address=office).status_code == 302

    def test_is_of_the_same_browser_with_the_cookie_it_had_before(self, person):
        """Before a browser was known by its cookie without the name, it had no seal inside."""
        known = Client()
        sign_in(person.email, client=known)
        new = known.cookies["sessionid-device"].value
        known.cookies["sessionid-device"] = get_cookie_signer(
            salt=f"sessionid-devicekassa.sign_in.device:{person.email}"
        ).sign("0123456789abcdef")
        assert find_browser(f"sessionid-device={known.cookies['sessionid-device'].value}") == ""
        guess(person.email, 20)

        assert sign_in(person.email, client=known).status_code == 302
        header = known.cookies["sessionid-device"].OutputString()
        assert find_browser(header) == "0123456789abcdef"
        assert find_browser(f"a=b; sessionid-device={new}") not in {"", "0123456789abcdef"}

    def test_in_a_browser_that_is_known_ends_too_and_it_is_known_for_one_person(self, person):
        known, victim = Client(), f"{new_id()}@kassa.test"
        sign_in(person.email, client=known)
        known.post("/admin/logout/")

        assert guess(person.email, 21, client=known) == [200] * 20 + [429]
        guess(victim, 20)
        assert guess(victim, 1, client=known) == [429]

    def test_a_cookie_that_somebody_made_up_is_none(self, person):
        forger = Client()
        for value in ("0123", "0123:a:b", ""):
            forger.cookies["sessionid-device"] = value
            guess(person.email, 7, client=forger)

        assert sign_in(person.email, client=forger).status_code == 429

    def test_is_limited_without_redis(self, settings, person):
        settings.CACHE_URL = "redis://127.0.0.1:1/1"

        assert guess(person.email, 21) == [200] * 20 + [429]
        assert Counting.calls == 20


class TestHashing:
    @pytest.fixture(autouse=True)
    def argon(self, settings, person):
        settings.PASSWORD_HASHERS = ["apps.core.passwords.PacedArgon2PasswordHasher"]
        person.set_password(PASSWORD)
        person.save()

    def test_waits_for_a_turn_and_is_503_where_none_comes(self, person, settings, monkeypatch):
        settings.SIGN_INS_OF_NAME_MAX = 1
        monkeypatch.setattr(passwords, "_WAIT_SECONDS_MAX", 0.01)
        for _ in range(passwords.AT_ONCE_MAX):
            passwords._turns.acquire()
        try:
            busy = sign_in(person.email)
        finally:
            passwords._turns.release(passwords.AT_ONCE_MAX)

        assert busy.status_code == 503
        assert busy["Retry-After"] == str(views.sign_in._BUSY_SECONDS)
        assert "Try again in a moment" in busy.content.decode()
        # What was not looked at is not counted either.
        assert sign_in(person.email).status_code == 302

    def test_is_of_two_at_once(self, monkeypatch):
        at_work, most, go = [], [], threading.Event()

        def hash_slowly(*_args):
            at_work.append(1)
            most.append(len(at_work))
            go.wait(20)
            at_work.pop()
            return True

        monkeypatch.setattr(passwords, "_WAIT_SECONDS_MAX", 20)
        monkeypatch.setattr(passwords.Argon2PasswordHasher, "verify", hash_slowly)
        hasher = passwords.PacedArgon2PasswordHasher()
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(hasher.verify, "password", "hash") for _ in range(6)]
            wait_until(lambda: len(at_work) == 2)
            go.set()

        assert all(each.result() for each in asked)
        assert max(most) == 2

    @pytest.mark.django_db(transaction=True)
    def test_holds_no_connection_of_the_pool(self, person, monkeypatch):
        """Of a pool with one connection, another thread has it while a password is hashed."""
        counted = []
        verify = passwords.Argon2PasswordHasher.verify

        def look(*args):
            with ThreadPoolExecutor(1) as threads:
                counted.append(threads.submit(count).result())
            return verify(*args)

        def count():
            try:
                return Staff.objects.count()
            finally:
                connection.close()

        monkeypatch.setattr(passwords.Argon2PasswordHasher, "verify", look)
        connection.close()
        pool = {"min_size": 1, "max_size": 1, "timeout": 5}
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        try:
            answer = sign_in(person.email)
        finally:
            connection.close()
            connection.close_pool()

        assert answer.status_code == 302
        assert counted == [1]


class TestWithoutPostgres:
    def test_a_page_is_503_and_says_when_to_come_again(self, person, monkeypatch):
        client = Client()
        client.force_login(person)

        def away(*_args, **_options):
            raise OperationalError("couldn't get a connection after 3.00 sec")

        with monkeypatch.context() as patched:
            patched.setattr(connection, "ensure_connection", away)
            patched.setattr(connection, "cursor", away)
            answers = [client.get("/admin/"), client.get(URL), sign_in(person.email)]

        assert [answer.status_code for answer in answers] == [503] * 3
        assert all(1 <= int(answer["Retry-After"]) <= 10 for answer in answers)
        assert all("Try again in a moment" in answer.content.decode() for answer in answers)
        assert all("connection after" not in answer.content.decode() for answer in answers)
        assert client.get("/admin/").status_code == 200

    def test_a_session_that_cannot_be_kept_is_503(self, person, monkeypatch):
        """The password fitted and the page was made, and then the database went."""
        save = SessionStore.save

        def save_once(self, must_create=False):  # noqa: FBT002  (Django's signature)
            if not must_create:
                raise OperationalError("the connection is closed")
            save(self, must_create=True)

        monkeypatch.setattr(SessionStore, "save", save_once)
        client = Client()

        answer = sign_in(person.email, client=client)

        assert answer.status_code == 503
        assert "sessionid" not in client.cookies

    def test_a_fault_of_ours_stays_one(self, person, monkeypatch):
        def fall(*_args):
            raise ValueError("A fault of ours.")

        client = Client(raise_request_exception=False)
        client.force_login(person)
        monkeypatch.setattr(views, "home", fall)

        assert client.get("/admin/").status_code == 500
