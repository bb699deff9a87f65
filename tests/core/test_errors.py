from __future__ import annotations

import inspect

import pytest

from kuberml.core import errors
from kuberml.core.errors import ConfigError, InternalError, KuberError, MissingExtra, RemoteError, Unreachable, nearest


def test_the_root_of_the_tree_cannot_be_raised() -> None:
    with pytest.raises(TypeError, match="whose fault"):
        raise KuberError("something went wrong")


@pytest.mark.parametrize("sort", [ConfigError, RemoteError, Unreachable, InternalError])
def test_every_fault_is_a_kuber_error_and_keeps_its_message(sort: type[KuberError]) -> None:
    assert issubclass(sort, KuberError)
    assert str(sort("width = 3: wants an even number")) == "width = 3: wants an even number"


def test_every_class_of_the_tree_is_in_the_picture() -> None:
    drawn = errors.__doc__ or ""
    faults = [cls for cls in vars(errors).values() if inspect.isclass(cls) and cls.__base__ is KuberError]
    assert len(faults) == 4
    assert all(cls.__name__ in drawn for cls in faults)


def test_the_faults_exclude_each_other() -> None:
    faults = [ConfigError, RemoteError, Unreachable, InternalError]
    assert not any(issubclass(one, other) for one in faults for other in faults if one is not other)


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("training a network", "torch")
    assert error.extra == "torch"
    assert str(error) == "training a network needs the extra 'torch': pip install 'kuberml[torch]'"
    assert isinstance(error, ConfigError)


def test_the_nearest_name_comes_first_and_all_names_follow_in_order() -> None:
    assert nearest("fedvag", ["local", "fedavg"]) == "did you mean 'fedavg'? known: fedavg, local"


def test_without_a_near_name_only_the_known_ones_are_told() -> None:
    assert nearest("zzz", {"b", "a"}) == "known: a, b"
    assert nearest("zzz", []) == "known: none"
