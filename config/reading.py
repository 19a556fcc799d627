"""What is only read: any other method is refused, whoever sends it."""

from collections.abc import Callable
from functools import wraps
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from apps.core.api import problems

_METHODS: Final = ("GET", "HEAD")

type _View = Callable[[HttpRequest], HttpResponse]


def read_only(view: _View) -> _View:
    """Refuse every method that does not read, whoever sends it: no form's token is asked for."""

    @csrf_exempt
    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if request.method in _METHODS:
            return view(request)
        problem = problems.ApiProblem(
            "method_not_allowed",
            "This resource does not have that method.",
            headers={"Allow": ", ".join(_METHODS)},
        )
        return problems.respond(problem, request)

    return answer
