from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.jobs import check_job, job, load_job


@job(flops=lambda x_N, times: x_N.size * times)
def scale(x_N: np.ndarray, times: int) -> np.ndarray:
    return x_N * times


def unmarked() -> int:
    return 1


class Holder:
    @staticmethod
    def method() -> int:
        return 1


def test_a_job_is_still_the_function_and_says_what_it_costs() -> None:
    assert scale(np.ones(3), 2).tolist() == [2, 2, 2]
    assert check_job(scale).flops(np.ones(3), 2) == 6
    assert check_job(scale).job_name == f"{__name__}:scale"


def test_a_job_is_found_by_its_name() -> None:
    assert load_job(check_job(scale).job_name) is scale


def test_what_another_process_could_not_find_is_refused_at_once() -> None:
    def inner() -> int:
        return 1

    for function in (inner, lambda: 1, Holder.method):
        with pytest.raises(ConfigError, match="top-level"):
            job(flops=lambda: 0)(function)


def test_a_function_that_is_not_marked_is_no_job() -> None:
    with pytest.raises(ConfigError, match="mark it with @job"):
        check_job(unmarked)


@pytest.mark.parametrize(
    "name",
    [
        f"{__name__}:unmarked",
        f"{__name__}:nothing",
        "no_such_module_here:f",
        "os:system",
        ":f",
        "",
        "builtins:eval",
        f"{__name__}:np",
    ],
)
def test_a_name_that_is_no_job_is_our_own_fault(name: str) -> None:
    with pytest.raises(InternalError, match="no job"):
        load_job(name)


def test_an_alias_is_not_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job, one name: else one result would be remembered under two."""
    monkeypatch.setitem(globals(), "alias", scale)
    with pytest.raises(InternalError, match="no job"):
        load_job(f"{__name__}:alias")
