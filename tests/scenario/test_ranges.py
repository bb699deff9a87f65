"""Settings out of range are refused where a scenario is read, by name: a client that can fit nothing would only look bad."""

import math

import msgspec
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.reading import read
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.config import parse
from kuberml.scenario.options import check_options


def numbers(struct, path=()):
    """Dotted paths of all numeric options, those of nested tables too."""
    for field in msgspec.structs.fields(struct):
        here = (*path, field.encode_name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from numbers(field.type, here)
        elif isinstance(field.default, int | float) and not isinstance(field.default, bool):
            yield here


def nested(path, value):
    return {path[0]: nested(path[1:], value) if path[1:] else value}


@pytest.mark.parametrize("name", PARADIGMS.names())
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_no_option_of_a_paradigm_is_negative_or_not_a_number(name, value):
    struct = PARADIGMS.get(name).Config
    for path in numbers(struct):
        with pytest.raises(ConfigError, match=path[-1]):
            read(struct, nested(path, value))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -0.1}, "paradigms.fedavg.lr = -0.1: expected float > 0.0"),
        ({"lr": math.nan}, "paradigms.fedavg.lr = nan: a finite number is needed here"),
        ({"batch": 0}, "paradigms.fedavg.batch = 0: expected int >= 1"),
        ({"epochs": 0}, "paradigms.fedavg.epochs = 0: expected int >= 1"),
        ({"momentum": 1.0}, "paradigms.fedavg.momentum = 1.0: expected float < 1.0"),
        ({"cohort": 2.0}, "paradigms.fedavg.cohort = 2.0: expected float <= 1.0"),
        ({"deadline_s": 0}, "paradigms.fedavg.deadline_s = 0: expected float > 0.0"),
    ],
)
def test_it_is_said_which_option_and_what_is_right(options, says):
    with pytest.raises(ConfigError) as error:
        check_options(parse({"paradigms": {"fedavg": options}}), PARADIGMS)
    assert says in str(error.value)


@pytest.mark.parametrize("label", ["", "a/b", "../../x", "x" * 101, "a\0b"])
def test_a_label_is_a_name_for_files_too(label):
    with pytest.raises(ConfigError, match="a label names files too"):
        parse({"paradigms": {label: {"use": "local"}}})


@pytest.mark.parametrize("label", ["lr 0.1", "Größe", "[red] <b>", "x" * 100])
def test_labels_are_free_otherwise(label):
    assert list(parse({"paradigms": {label: {"use": "local"}}}).paradigms) == [label]


def test_a_seed_is_a_whole_number_of_toml():
    assert parse({"seed": 2**63 - 1, "paradigms": {"local": {}}}).seed == 2**63 - 1
    with pytest.raises(ConfigError, match="seed = 9223372036854775808"):
        parse({"seed": 2**63, "paradigms": {"local": {}}})
