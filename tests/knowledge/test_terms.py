import pytest

from kuberml.knowledge.card import Terms
from kuberml.knowledge.terms import allowed

STRICT = Terms("CC-BY-4.0", ("research", "teaching"), ("EU", "UK"), 1000)


def ask(terms=STRICT, purpose="research", region="EU", now_ms=999, licences=None):
    return allowed(terms, purpose=purpose, region=region, now_ms=now_ms, licences=licences)


def test_what_the_terms_name_is_allowed():
    assert ask() is None
    assert ask(licences={"CC-BY-4.0", "MIT"}) is None


def test_no_terms_forbid_nothing():
    assert ask(Terms(), purpose="", region="", now_ms=2**60, licences=()) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"now_ms": 1000}, "it expired at 1000 ms, and it is 1000 ms now"),
        ({"purpose": "advertising"}, "it is for 'research', 'teaching', not for 'advertising'"),
        ({"purpose": ""}, "it is for 'research', 'teaching', not for a purpose that is not said"),
        ({"purpose": "Research"}, "it is for 'research', 'teaching', not for 'Research'"),
        ({"region": "US"}, "it is for use in 'EU', 'UK', not in 'US'"),
        ({"region": ""}, "it is for use in 'EU', 'UK', not in a region that is not said"),
        ({"licences": {"MIT"}}, "its licence is 'CC-BY-4.0'; accepted here: 'MIT'"),
        ({"licences": set()}, "its licence is 'CC-BY-4.0'; accepted here: none"),
    ],
)
def test_the_reason_says_what_is_allowed_and_what_was_asked(change, reason):
    assert ask(**change) == reason


def test_a_strangers_terms_do_not_fill_the_log():
    assert len(ask(Terms(purposes=("x" * 1000,) * 1000))) < 1000
