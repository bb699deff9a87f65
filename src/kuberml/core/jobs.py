"""Jobs: the pure functions that do the real work.

A job is a top-level function of values (`core.values`) that returns a value. It has no side effects and no clock, draws
randomness only from a seed among its arguments, and says what it costs before it runs:

    @job(flops=lambda weights_P, data, steps, seed: 6 * weights_P.size * steps * 32)
    def fit(weights_P, data, steps, seed): ...

Because of that a job may run lazily, on another process, or not at all (its result is remembered from the run before).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from kuberml.core.errors import ConfigError, InternalError

F = TypeVar("F", bound=Callable[..., Any])


class JobFunction(Protocol):
    """A function that `@job` has marked."""

    flops: Callable[..., int]
    job_name: str

    def __call__(self, *values: Any) -> Any:
        """Run it."""
        ...


def job(*, flops: Callable[..., int]) -> Callable[[F], F]:
    """Mark a top-level function as a job.

    Args:
        flops: called with the job's own arguments; the floating point operations it will take, an integer >= 0.
            A modelled device turns it into virtual time and energy.

    Raises:
        ConfigError: the function is a method, a lambda, or inside another function.
    """

    def mark(function: F) -> F:
        if not function.__qualname__.isidentifier():
            raise ConfigError(f"job {function.__qualname__} must be a top-level function: workers import it by name")
        marked = cast(Any, function)
        marked.flops = flops
        marked.job_name = f"{function.__module__}:{function.__qualname__}"
        return function

    return mark


def check_job(function: Callable[..., Any]) -> JobFunction:
    """`function` as a job.

    Raises:
        ConfigError: it was not marked with `@job`.
    """
    if not hasattr(function, "job_name"):
        raise ConfigError(f"{function!r} is not a job: mark it with @job(flops=...)")
    return cast(JobFunction, function)


def load_job(name: str) -> JobFunction:
    """The job called `module:function`, imported. Names come from our own process, never from a package.

    Raises:
        InternalError: there is no such job.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise InternalError(f"no job {name}: {error}") from error
    if function is None or getattr(function, "job_name", None) != name:
        raise InternalError(f"no job {name}")
    return cast(JobFunction, function)
