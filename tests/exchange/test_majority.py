"""The hub's standing gives the answers of a `Standing` without a reader, whatever is heard and forgotten, in any order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.ids import Digest
from kuberml.exchange.majority import Majority
from kuberml.exchange.standing import Standing
from kuberml.knowledge.verdict import Verdict

PEOPLE = [f"{i:064x}" for i in range(6)]
CARDS = [Digest(f"{i:064x}") for i in range(100, 105)]
AUTHOR = {card: PEOPLE[i % 3] for i, card in enumerate(CARDS)}

VERDICTS = st.builds(
    lambda card, witness, label, tested, right, at_ms: Verdict(
        card, AUTHOR[card], witness, {label: tested}, {label: min(right, tested)}, at_ms
    ),
    st.sampled_from(CARDS), st.sampled_from(PEOPLE), st.sampled_from("12"), st.integers(1, 9), st.integers(0, 9),
    st.integers(0, 5),
)  # fmt: skip


def newest(said: list[Verdict]) -> list[Verdict]:
    """As a board lets them through: of each witness on each card the newest, the first of equals."""
    found: dict[tuple[str, str], Verdict] = {}
    for one in said:
        old = found.get((one.card, one.witness))
        if old is None or one.at_ms > old.at_ms:
            found[one.card, one.witness] = one
    return list(found.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(VERDICTS, max_size=40), st.sets(st.sampled_from(CARDS)))
def test_it_agrees_with_standing(said: list[Verdict], gone: set[Digest]) -> None:
    mine, yardstick = Majority(), Standing()
    best: dict[tuple[str, str], int] = {}
    for one in said:
        if one.at_ms > best.get((one.card, one.witness), -1):
            best[one.card, one.witness] = one.at_ms
            mine.heard(one)
    for card in gone:
        mine.forget(card)
    for one in newest(said):
        if one.card not in gone:
            yardstick.heard(one)
    assert [mine.trust_ppm(who) for who in PEOPLE] == [yardstick.trust_ppm(who) for who in PEOPLE]
    assert [mine.outcomes(card) for card in CARDS] == [yardstick.outcomes(card) for card in CARDS]
    assert [mine.rank_ppm(who) for who in PEOPLE] == [yardstick.rank_ppm(who) for who in PEOPLE]


def test_what_is_forgotten_leaves_nothing_behind() -> None:
    majority = Majority()
    for witness in PEOPLE[1:5]:
        majority.heard(Verdict(CARDS[0], PEOPLE[0], witness, {"1": 5}, {"1": 5}, 0))
    assert majority.trust_ppm(PEOPLE[1]) > 0
    assert majority.rank_ppm(PEOPLE[0]) > 500_000
    majority.forget(CARDS[0])
    majority.forget(CARDS[0])
    assert majority.trust_ppm(PEOPLE[1]) == 0
    assert majority.rank_ppm(PEOPLE[0]) == 500_000
    assert (majority._cards, majority._of_author, majority._compared) == ({}, {}, {})
