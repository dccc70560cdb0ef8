"""What a body comes to, all steps at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from services.ingest.accept import accept as accept_in_steps
from services.ingest.steps import Steps

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def at_once(steps: Callable[Arguments, Steps[Result]]) -> Callable[Arguments, Result]:
    """What does all steps of it, and gives what they came to."""

    def done(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        return finish(steps(*arguments, **named))

    return done


def finish(steps: Steps[Result]) -> Result:
    """Do all steps; what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


accept = at_once(accept_in_steps)
