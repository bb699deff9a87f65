from kuberml.core.ids import Digest, NodeId
from kuberml.exchange.broker import Outcomes, rank
from kuberml.knowledge.card import PPM, BlobRef, Card, Claim, SignedCard
from kuberml.knowledge.want import Want

PROBE = Digest("9" * 64)


def offered(
    author: str, labels: dict[str, int], size_bytes: int = 1000, claims: tuple[Claim, ...] = ()
) -> tuple[SignedCard, tuple[NodeId, ...]]:
    ref = BlobRef(Digest("0" * 64), size_bytes, (size_bytes,), b"\0" * 32)
    card = Card("statistics", "digits", labels, None, author * 64, "shard", 0, (ref,), 0, claims)
    return SignedCard(card, b"\0" * 64), (NodeId(author),)


def nothing(card: Digest) -> Outcomes:
    return {}


def order(
    want: Want, *candidates: tuple[SignedCard, tuple[NodeId, ...]], outcomes=nothing, rank_ppm=lambda author: PPM // 2
) -> str:
    return "".join(offer.holders[0] for offer in rank(want, candidates, outcomes, rank_ppm))


WANT = Want("digits", {"7": PPM}, budget_bytes=64_000)


def test_who_knows_the_label_better_comes_first() -> None:
    assert order(WANT, offered("a", {"7": 5}), offered("b", {"7": 500}), offered("c", {"1": 500})) == "bac"


def test_of_equals_the_cheaper_comes_first_and_what_is_over_budget_never() -> None:
    assert order(WANT, offered("a", {"7": 50}, 60_000), offered("b", {"7": 50}, 3_000), offered("c", {"7": 50}, 65_000)) == "ba"


def test_outcomes_outweigh_claims() -> None:
    boast = offered("a", {"7": 50}, claims=(Claim(PROBE, {"7": PPM}),))
    honest = offered("b", {"7": 50}, claims=(Claim(PROBE, {"7": PPM * 8 // 10}),))
    assert order(WANT, boast, honest) == "ab"
    tried = {boast[0].digest: {"7": (0, 40)}}
    assert order(WANT, boast, honest, outcomes=lambda card: tried.get(card, {})) == "ba"


def test_a_liar_s_word_counts_less() -> None:
    assert (
        order(
            WANT,
            offered("a", {"7": 50}),
            offered("b", {"7": 50}),
            rank_ppm=lambda author: PPM // 10 if author[0] == "a" else PPM // 2,
        )
        == "ba"
    )


def test_the_limit_holds() -> None:
    many = [offered(letter, {"7": 50}) for letter in "abcdef"]
    assert len(rank(Want("digits", {"7": PPM}, limit=4), many, nothing, lambda author: PPM)) == 4
