"""Tasks wait in their rows: what would have Celery wait, repeat or run them at once is refused."""

import pytest

from dev import check_tasks


class TestFindForbidden:
    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("task.apply_async(args, countdown=5)", "countdown"),
            ("app.send_task('core.sweep', eta=at)", "eta"),
            ("task.apply_async(**{'countdown': 5})", "countdown"),
            ("options['eta'] = at", "eta"),
            ("raise self.retry(exc=fault)", "retry()"),
            ("work.retry()", "retry()"),
            ("@shared_task(autoretry_for=(OSError,))\ndef f(): ...", "autoretry_for"),
            ("@shared_task(retry_backoff=True)\ndef f(): ...", "retry_backoff"),
            ("CELERY_TASK_ALWAYS_EAGER = True", "CELERY_TASK_ALWAYS_EAGER"),
            ("app.conf.task_always_eager = True", "task_always_eager"),
            ("settings = {'task_always_eager': True}", "task_always_eager"),
            ("app.conf.update(task_always_eager=True)", "task_always_eager"),
        ],
    )
    def test_names_what_is_forbidden_and_its_line(self, source, name):
        assert check_tasks.find_forbidden(f"import x\n{source}\n") == [f"2: {name}"]

    @pytest.mark.parametrize(
        "source",
        [
            "work.mark_retry(row, error_code='away')",
            "app.send_task('core.sweep', expires=60)",
            "if settings.get('CELERY_TASK_ALWAYS_EAGER'): refuse()",
            "settings = {'retry_on_timeout': True}",
            '"""No countdown, no eta, no retry."""',
        ],
    )
    def test_lets_pass_what_only_looks_like_it(self, source):
        assert check_tasks.find_forbidden(source) == []


class TestMain:
    def test_finds_nothing_in_the_apps_and_their_settings(self, capsys):
        assert check_tasks.main() == 0
        assert capsys.readouterr().err == ""

    def test_names_the_file_and_fails(self, tmp_path, monkeypatch, capsys):
        module = tmp_path / "apps" / "payouts" / "tasks.py"
        module.parent.mkdir(parents=True)
        module.write_text("task.apply_async(countdown=5)\n")
        monkeypatch.setattr(check_tasks, "ROOT", tmp_path)

        assert check_tasks.main() == 1
        assert "apps/payouts/tasks.py:1: countdown" in capsys.readouterr().err
