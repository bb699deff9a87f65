import pytest

from kuberml.ledger.vocabulary import ACTIVITY, AGENTS, ENTITIES, EVENTS, NODE, RELATIONS, Rule, statements

RULES = [(event, rule) for event, rules in EVENTS.items() for rule in rules]
ENDS = {
    "used": ("activity", "entity"),
    "wasGeneratedBy": ("entity", "activity"),
    "wasAssociatedWith": ("activity", "agent"),
    "wasDerivedFrom": ("entity", "entity"),
    "wasAttributedTo": ("entity", "agent"),
    "wasInvalidatedBy": ("entity", "activity"),
}


def sort(role: str) -> str:
    return "activity" if role == ACTIVITY else "agent" if role in AGENTS else "entity"


@pytest.mark.parametrize(("event", "rule"), RULES)
def test_every_rule_joins_what_prov_allows(event: str, rule: Rule) -> None:
    assert rule.relation in RELATIONS
    assert (sort(rule.subject), sort(rule.object)) == ENDS[rule.relation]
    for role in (rule.subject, rule.object):
        assert role in (ACTIVITY, *AGENTS, *ENTITIES)


def test_every_event_of_the_loop_is_known() -> None:
    loop = {"published", "found", "fetched", "tried", "absorbed", "refused", "forgot", "deployed", "job"}
    assert loop == set(EVENTS)


def test_a_list_makes_one_statement_for_each_item() -> None:
    said = list(statements("deployed", {"model": "m", "sources": ["a", "b"]}))
    assert ("wasDerivedFrom", "model", "m", "sources", "a") in said
    assert ("wasDerivedFrom", "model", "m", "sources", "b") in said
    assert ("used", ACTIVITY, None, "model", "m") in said
    assert ("wasAttributedTo", "model", "m", NODE, None) in said


@pytest.mark.parametrize("fields", [{}, {"card": None}, {"card": ""}, {"card": 7}, {"card": [1, None, ""]}])
def test_what_is_not_there_says_nothing(fields: dict) -> None:
    assert list(statements("tried", fields)) == []


@pytest.mark.parametrize("event", ["fault", "anything else"])
def test_other_events_say_nothing_more(event: str) -> None:
    assert list(statements(event, {"card": "c"})) == []
