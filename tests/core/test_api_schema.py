"""What the OpenAPI document says of every view, held against the view."""

import inspect
from collections.abc import Iterator

from django.urls import get_resolver

from apps.core.api.views import ApiView


def views() -> Iterator[type[ApiView]]:
    patterns = list(get_resolver().url_patterns)
    while patterns:
        one = patterns.pop()
        patterns += getattr(one, "url_patterns", [])
        view = getattr(getattr(one, "callback", None), "view_class", None)
        if view is not None and issubclass(view, ApiView):
            yield view


def test_says_304_of_exactly_those_that_answer_it():
    readers = [view for view in views() if hasattr(view, "get") and "GET" in view.shapes]

    told = {view for view in readers if view.shapes["GET"].etag}

    # A method answers 304 by `resource`, and by nothing else.
    assert told == {view for view in readers if "return resource(" in inspect.getsource(view.get)}
    assert len(told) > 10
