"""The page of stuck work: what stands still, for whom, and releasing it by its form."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.core import clock, jobs, stuck, work
from apps.core.ids import new_id, new_ids
from apps.core.jobs import Every
from apps.core.models import AuditEvent, EventWork, JobRun
from apps.webhooks.models import WebhookLane
from apps.webhooks.operations import SLOW_LANE_KIND
from tests.accounts import factories
from tests.backoffice.test_acts import open_form
from tests.core import errands
from tests.core.errands import Errand

REASON = "What broke it is mended."
URL = "/admin/stuck-work/"
JOBS_URL = "/admin/core/jobrun/"


def url_of(row, kind="core.consume"):
    return reverse("admin:stuck_row", args=[kind, row.pk])


def set_aside(owner, **more):
    return EventWork.objects.create(
        organization_id=owner.id,
        batch_id=new_id(),
        **{
            "consumer": "tests",
            "state": "quarantined",
            "attempts": 12,
            "last_error_code": "consumer_failed",
        }
        | more,
    )


def release(client, row, kind="core.consume", **fields):
    url = url_of(row, kind)
    return client.post(url, {**open_form(client, url), "reason": REASON, **fields})


class TestThePage:
    def test_has_every_kind_of_work_and_every_job(self, browse):
        text = browse("milo").get(URL).content.decode()

        assert {kind.name for kind in work.kinds() if f">{kind.name}<" not in text} == set()
        assert {job.kind for job in jobs.declared() if f">{job.kind}<" not in text} == set()

    def test_leads_from_each_job_to_its_periods(self, browse):
        text = browse("milo").get(URL).content.decode()

        links = [f'href="{JOBS_URL}?kind={job.kind}"' for job in jobs.declared()]
        assert [link for link in links if link not in text] == []
        assert {"every minute", "every 5 min", "every hour", "every 6 h"} <= {
            str(job.schedule) for job in jobs.declared()
        }

    def test_lists_what_was_set_aside_and_what_nobody_takes(self, browse, house):
        aside = set_aside(house, attempts=7, lapses=4)
        late = set_aside(
            house, state="pending", next_attempt_at=clock.now() - timedelta(minutes=10)
        )

        text = browse("milo").get(URL).content.decode()

        assert url_of(aside) in text
        assert url_of(late) in text
        assert "consumer_failed" in text
        assert house.organization.name in text

    def test_counts_by_kind_and_links_to_the_rows(self, browse, house):
        failed = set_aside(house, state="failed")

        text = browse("milo").get(URL).content.decode()
        narrowed = browse("milo").get(f"{URL}?kind=core.consume&state=failed").content.decode()

        assert "?kind=core.consume&amp;state=failed" in text
        assert url_of(failed) not in text
        assert url_of(failed) in narrowed

    def test_shows_a_page_of_rows_and_says_that_there_are_more(self, browse, house):
        EventWork.objects.bulk_create(
            EventWork(organization_id=house.id, batch_id=id_, consumer="tests", state="quarantined")
            for id_ in new_ids(60)
        )

        text = browse("milo").get(f"{URL}?kind=core.consume").content.decode()

        assert text.count("/admin/stuck-work/core.consume/") == 50
        assert "the first 50, oldest first" in text

    def test_asks_as_little_for_many_rows_as_for_few(self, browse, house):
        client = browse("milo")
        with CaptureQueriesContext(connection) as few:
            client.get(URL)
        EventWork.objects.bulk_create(
            EventWork(organization_id=house.id, batch_id=id_, consumer="tests", state="quarantined")
            for id_ in new_ids(200)
        )

        with CaptureQueriesContext(connection) as many:
            client.get(URL)

        assert len(many) == len(few)
        read = [one["sql"] for one in many if "core_event_work" in one["sql"]]
        assert len(read) == 2

    @pytest.mark.parametrize(
        "query", ["kind=%00", "kind=no.kind", "state=done", "state=%00", "organization=x"]
    )
    def test_is_there_whatever_the_address_says(self, browse, query):
        assert browse("milo").get(f"{URL}?{query}").status_code == 200

    def test_tells_kinds_apart_that_share_a_table(self, house, db):
        lane = WebhookLane.objects.first()
        WebhookLane.objects.filter(pk=lane.pk).update(state="quarantined", is_slow=True)

        found = stuck.list_stuck(organization_ids=[house.id], limit=50)

        assert [row.kind for row in found if row.id == lane.pk] == [SLOW_LANE_KIND]

    def test_shows_and_releases_a_kind_that_only_registered(self, browse, house):
        client = browse("milo")
        with errands.installed():
            row = Errand.objects.create(
                organization_id=house.id, name="to the post", state="quarantined", attempts=12
            )

            listed = client.get(URL).content.decode()
            alone = client.get(url_of(row, errands.KIND)).content.decode()
            release(client, row, errands.KIND)

            row.refresh_from_db()
        assert f">{errands.KIND}<" in listed
        assert url_of(row, errands.KIND) in listed
        assert "to the post" in alone
        assert (row.state, row.attempts) == ("pending", 0)

    def test_escapes_what_rows_say(self, browse, house):
        row = set_aside(house, consumer="<script>1</script>", last_error_code="<b>gone</b>")

        listed = browse("milo").get(URL).content.decode()
        alone = browse("milo").get(url_of(row)).content.decode()

        assert "&lt;b&gt;gone&lt;/b&gt;" in listed
        assert "&lt;script&gt;1&lt;/script&gt;" in alone
        for text in (listed, alone):
            assert "<b>gone" not in text
            assert "<script>1" not in text


class TestJobs:
    @pytest.fixture
    def nightly(self, monkeypatch, house, db):
        job = jobs.Job("tests.nightly", Every(60), "all", lambda *_: None)
        monkeypatch.setattr(jobs, "_jobs", {**jobs._jobs, job.kind: job})
        return JobRun.objects.create(
            kind=job.kind,
            period="2026-11-02T09:00Z",
            due_at=clock.now(),
            state="quarantined",
            attempts=12,
            last_error_code="job_failed",
        )

    def test_that_are_stopped_by_a_period_say_so_and_link_to_it(self, browse, nightly):
        text = browse("milo").get(URL).content.decode()

        assert "stopped by a period" in text
        assert f'<a href="{url_of(nightly, "core.jobs")}">1</a>' in text

    def test_are_released_from_the_page_of_their_period_too(self, browse, nightly):
        page = f"/admin/core/jobrun/{nightly.pk}/"

        waiting = browse("milo").get(page).content.decode()
        release(browse("milo"), nightly, "core.jobs")
        released = browse("milo").get(page).content.decode()

        link = f'href="{url_of(nightly, "core.jobs")}"'
        assert link in waiting
        assert link not in released

    def test_go_on_once_the_period_was_released(self, browse, nightly):
        answer = release(browse("milo"), nightly, "core.jobs")

        assert answer.status_code == 302
        assert "stopped by a period" not in browse("milo").get(URL).content.decode()
        [taken] = work.claim_due(JobRun, limit=1, lease_seconds=60, only_ids=[nightly.pk])
        assert (taken.kind, taken.period) == ("tests.nightly", "2026-11-02T09:00Z")


class TestTheJobsScreen:
    @pytest.fixture
    def hourly(self, monkeypatch, house, db):
        """Return a job that ran five hours ago, and of which nobody planned anything since."""
        job = jobs.Job("tests.hourly", Every(60), "latest", lambda *_: None)
        monkeypatch.setattr(jobs, "_jobs", {**jobs._jobs, job.kind: job})
        then = clock.now() - timedelta(hours=5)
        return JobRun.objects.create(
            kind=job.kind, period="long ago", due_at=then, state="done", finished_at=then
        )

    def test_says_how_every_declared_job_stands_above_their_periods(self, browse):
        text = browse("milo").get(JOBS_URL).content.decode()

        above, below = text.split('id="result_list"')
        assert {job.kind for job in jobs.declared() if f">{job.kind}</code>" not in above} == set()
        assert "banking.seed_calendar" in below

    @pytest.mark.parametrize("url", [URL, JOBS_URL])
    def test_calls_a_job_late_whose_periods_nobody_planned(self, browse, hourly, url):
        text = browse("milo").get(url).content.decode()

        [row] = [one for one in text.split("<tr>") if ">tests.hourly</code>" in one]
        assert "</i>late</span>" in row
        assert re.search(r"<td class=\"k-end\">[45]</td></tr>", row)

    def test_says_that_a_period_was_set_aside_though_others_go_on(self, browse):
        text = browse("milo").get(JOBS_URL).content.decode()

        [row] = [one for one in text.split("<tr>") if ">banking.seed_calendar</code>" in one]
        assert "</i>a period set aside</span>" in row

    def test_is_of_periods_alone_where_they_are_narrowed(self, browse, hourly):
        text = browse("milo").get(f"{JOBS_URL}?kind={hourly.kind}").content.decode()

        assert "<h2>Jobs</h2>" not in text
        assert "long ago" in text


class TestReleasing:
    def test_shows_the_row_and_changes_nothing(self, browse, house):
        row = set_aside(house, lapses=3)

        text = browse("milo").get(url_of(row)).content.decode()

        assert "Release this work" in text
        assert str(row.batch_id) in text
        row.refresh_from_db()
        assert row.state == "quarantined"

    def test_makes_the_row_due_with_the_reason_in_the_trail(self, browse, house):
        row = set_aside(house)

        answer = release(browse("milo"), row)

        row.refresh_from_db()
        assert (answer.status_code, answer["Location"]) == (302, URL)
        assert (row.state, row.attempts) == ("pending", 0)
        trail = AuditEvent.objects.get(subject_id=str(row.pk))
        assert (trail.act, trail.principal, trail.reason) == (
            "core.requeue_work",
            f"staff:{house.people['milo'].pk}",
            REASON,
        )

    def test_by_a_double_click_is_done_once(self, browse, house):
        client, row = browse("milo"), set_aside(house)
        sent = {**open_form(client, url_of(row)), "reason": REASON}

        first, second = client.post(url_of(row), sent), client.post(url_of(row), sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert AuditEvent.objects.filter(subject_id=str(row.pk)).count() == 1

    @pytest.mark.parametrize("reason", ["", "no", "x" * 501])
    def test_wants_a_reason(self, browse, house, reason):
        row = set_aside(house)

        answer = release(browse("milo"), row, reason=reason)

        row.refresh_from_db()
        assert (answer.status_code, row.state) == (400, "quarantined")

    def test_of_what_was_released_meanwhile_is_told_and_keeps_the_text(self, browse, house):
        client, row = browse("milo"), set_aside(house)
        sent = {**open_form(client, url_of(row)), "reason": REASON}
        release(browse("noor"), row)

        answer = client.post(url_of(row), sent)

        text = answer.content.decode()
        assert answer.status_code == 409
        assert "This work is not set aside." in text
        assert REASON in text
        assert AuditEvent.objects.filter(subject_id=str(row.pk)).count() == 1

    def test_is_off_for_work_that_goes_on_by_itself(self, browse, house):
        row = set_aside(house, state="pending")

        text = browse("milo").get(url_of(row)).content.decode()

        assert "It is not set aside: a worker takes it by itself" in text

    def test_is_nothing_without_its_csrf_token(self, browse, house):
        row = set_aside(house)

        answer = release(browse("milo", enforce_csrf_checks=True), row)

        row.refresh_from_db()
        assert (answer.status_code, row.state) == (403, "quarantined")


class TestWhose:
    @pytest.fixture
    def elsewhere(self, house, db):
        return factories.create_organization()

    @pytest.fixture
    def theirs(self, client, elsewhere):
        """Return a client of someone who sees the other organization alone."""
        person = factories.create_staff("risk_manager", organizations=[elsewhere], sees_all=False)
        client.force_login(person)
        return client

    def test_is_shown_to_those_who_see_the_organization(self, theirs, house, elsewhere):
        ours, own = set_aside(house), set_aside(elsewhere)

        text = theirs.get(URL).content.decode()

        assert url_of(own) in text
        assert url_of(ours) not in text
        assert house.organization.name not in text

    def test_is_nowhere_for_those_who_do_not(self, theirs, house):
        row = set_aside(house)

        seen = theirs.get(url_of(row))
        sent = theirs.post(url_of(row), {"reason": REASON, "form_token": str(new_id())})

        row.refresh_from_db()
        assert (seen.status_code, sent.status_code, row.state) == (404, 404, "quarantined")

    def test_is_the_platforms_where_it_is_a_jobs(self, theirs, house):
        run = JobRun.objects.create(
            kind="tests.gone", period="2026-11-02", due_at=clock.now(), state="quarantined"
        )

        answer = release(theirs, run, "core.jobs")

        run.refresh_from_db()
        assert (answer.status_code, run.state) == (302, "pending")

    def test_is_narrowed_to_the_organization_that_is_chosen(self, browse, house, elsewhere):
        ours, other = set_aside(house), set_aside(elsewhere)

        text = browse("milo").get(f"{URL}?organization={house.id}").content.decode()

        assert url_of(ours) in text
        assert url_of(other) not in text

    def test_has_no_row_under_a_kind_that_is_none(self, browse, house):
        row = set_aside(house)

        assert browse("milo").get(url_of(row, "no.kind")).status_code == 404
        assert browse("milo").get(url_of(row, "core.relay")).status_code == 404


class TestHome:
    def test_counts_what_is_stuck_and_links_to_it(self, browse, house):
        set_aside(house)
        set_aside(house)
        set_aside(house, state="pending", next_attempt_at=clock.now() - timedelta(minutes=10))

        text = browse("milo").get("/admin/").content.decode()

        assert f'href="{URL}"' in text
        # Two rows, and the period of a job that the house has set aside.
        assert "3 quarantined" in text
        assert "overdue" in text

    @pytest.mark.parametrize("login", ["sofia", "ada", "bo"])
    def test_says_nothing_of_it_to_those_who_cannot_help(self, browse, house, login):
        set_aside(house)

        text = browse(login).get("/admin/").content.decode()

        assert "Stuck work" not in text
        assert browse(login).get(URL).status_code == 403
