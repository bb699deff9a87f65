from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.ids import Digest
from kuberml.exchange.standing import Standing
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Verdict

ME, W1, W2, LIAR, AUTHOR, OTHER = (letter * 64 for letter in "abcdef")
CARD = [Digest(f"{i:064x}") for i in range(9)]


def verdict(card: int, author: str, witness: str, correct: int, tested: int = 10, label: str = "7", at_ms: int = 0) -> Verdict:
    return Verdict(
        card=CARD[card], author=author, witness=witness, tested={label: tested}, correct={label: correct}, at_ms=at_ms
    )


def heard(*verdicts: Verdict, me: str | None = ME) -> Standing:
    standing = Standing(me)
    for one in verdicts:
        standing.heard(one)
    return standing


def test_a_witness_is_trusted_as_far_as_it_agrees_with_me() -> None:
    mine = [verdict(0, AUTHOR, ME, 10), verdict(1, OTHER, ME, 0)]
    standing = heard(
        *mine, verdict(0, AUTHOR, W1, 9), verdict(1, OTHER, W1, 1), verdict(0, AUTHOR, LIAR, 0), verdict(1, OTHER, LIAR, 10)
    )
    assert standing.trust_ppm(W1) == PPM
    assert standing.trust_ppm(LIAR) == 0
    assert standing.trust_ppm(W2) == 0


def test_somebody_else_s_word_helps_to_compare() -> None:
    first = [verdict(0, AUTHOR, ME, 10), verdict(0, AUTHOR, W1, 10)]
    standing = heard(*first, verdict(1, OTHER, W1, 9), verdict(1, OTHER, W2, 9), verdict(1, OTHER, LIAR, 0))
    assert standing.trust_ppm(W2) == PPM // 2
    assert standing.trust_ppm(LIAR) == 0


def test_credit_leaves_out_me_and_weighs_the_others() -> None:
    standing = heard(verdict(0, AUTHOR, ME, 10), verdict(0, AUTHOR, W1, 10), verdict(2, OTHER, W1, 8), verdict(2, OTHER, ME, 9))
    assert standing.credit(CARD[2])["7"].correct == 8


def test_an_author_whose_knowledge_failed_here_is_no_witness() -> None:
    standing = heard(verdict(0, LIAR, ME, 1), verdict(1, AUTHOR, LIAR, 10))
    assert standing.trust_ppm(LIAR) == 0
    assert standing.credit(CARD[1]).get("7") is None or standing.credit(CARD[1])["7"].count == 0


def test_without_own_tests_the_majority_is_the_yardstick() -> None:
    told = [verdict(c, AUTHOR, w, 9) for c in (0, 1) for w in (W1, W2, OTHER)] + [verdict(c, AUTHOR, LIAR, 0) for c in (0, 1)]
    standing = heard(*told, me=None)
    assert standing.trust_ppm(LIAR) == 0
    assert standing.trust_ppm(W1) > PPM // 2
    assert standing.rank_ppm(AUTHOR) > PPM // 2


@given(st.permutations(range(6)))
def test_the_order_of_hearing_does_not_matter(order: list[int]) -> None:
    told = [
        verdict(0, AUTHOR, ME, 10), verdict(0, AUTHOR, W1, 9), verdict(1, OTHER, W1, 8), verdict(1, OTHER, W2, 2),
        verdict(0, AUTHOR, W1, 1, at_ms=5), verdict(1, OTHER, ME, 9),
    ]  # fmt: skip
    one, two = heard(*told), heard(*(told[i] for i in order))
    assert [one.credit(card) for card in CARD] == [two.credit(card) for card in CARD]
    assert one.rank_ppm(AUTHOR) == two.rank_ppm(AUTHOR)


def test_one_wrong_answer_of_two_calls_nobody_a_liar() -> None:
    told = [verdict(0, AUTHOR, ME, 1, tested=2), verdict(0, AUTHOR, W1, 10), verdict(1, OTHER, ME, 9), verdict(1, OTHER, W1, 9)]
    strict, fair = Standing(ME), Standing(ME, doubt=0.2)
    for one in told:
        strict.heard(one)
        fair.heard(one)
    assert strict.trust_ppm(W1) == 0
    assert fair.trust_ppm(W1) == PPM
    fair.heard(verdict(0, AUTHOR, ME, 0, tested=8, at_ms=1))
    assert fair.trust_ppm(W1) == 0, "none right of eight is no chance"


def test_what_counts_as_good_is_what_the_reader_asks_for() -> None:
    told = [verdict(0, AUTHOR, ME, 4), verdict(0, AUTHOR, W1, 5)]
    high, low = Standing(ME), Standing(ME, bar=0.4)
    for one in told:
        high.heard(one)
        low.heard(one)
    assert (high.rank_ppm(AUTHOR), low.rank_ppm(AUTHOR)) == (PPM // 4, 3 * PPM // 4)


def test_what_proves_nothing_leaves_no_trace_when_it_is_forgotten() -> None:
    standing = Standing(ME, doubt=0.2)
    standing.heard(verdict(0, AUTHOR, W1, 1, tested=2))
    standing.forget(CARD[0])
    assert standing.credit(CARD[0]) == {}
    assert standing.rank_ppm(AUTHOR) == PPM // 2


def test_who_cannot_test_may_go_by_the_majority_and_no_longer_than_that() -> None:
    told = [verdict(c, AUTHOR, w, 9) for c in (0, 1) for w in (W1, W2, OTHER)] + [verdict(c, AUTHOR, LIAR, 0) for c in (0, 1)]
    told.append(verdict(0, AUTHOR, ME, 1, tested=2))
    careful, poor = Standing(ME, doubt=0.2), Standing(ME, doubt=0.2, majority=True)
    for one in told:
        careful.heard(one)
        poor.heard(one)
    assert careful.trust_ppm(W1) == 0
    assert (poor.trust_ppm(W1), poor.trust_ppm(LIAR)) == (PPM, 0)
    poor.heard(verdict(0, AUTHOR, ME, 0, tested=8, at_ms=1))
    assert (poor.trust_ppm(W1), poor.trust_ppm(LIAR)) == (0, PPM), "one test of one's own that says something outweighs all"
