"""A small history with a known lineage, for the tests of queries and export.

a: card_a --------------------> b absorbs it: model_b1 (base model_b0)
                                b publishes card_b (from card_a and model_b1)
c: refuses card_a (untrusted), absorbs card_b: model_c, and deploys it
d: forgets card_a
"""

from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.ledger.ledger import Ledger

CARD_A, CARD_B, CARD_X = (digest_of(name) for name in (b"card a", b"card b", b"card x"))
MODEL_B0, MODEL_B1, MODEL_C = (digest_of(name) for name in (b"model b0", b"model b1", b"model c"))
KEY_A = digest_of(b"the key of a")


def small_world(ledger: Ledger) -> None:
    tick = iter(range(1000, 10**9, 1000))

    def now_ns() -> int:
        return next(tick)

    a, b, c, d = (ledger.recorder(NodeId(name), now_ns) for name in "abcd")
    a.record(
        "published", card=CARD_A, kind="weights", slot="s", version=1, size_bytes=9, labels={"3": 5}, parents=[], author=KEY_A
    )
    a.record("published", card=CARD_X, kind="weights", slot="t", version=1, size_bytes=9, labels={}, parents=[])
    b.record("found", want=digest_of(b"want"), offers=[CARD_A, CARD_X])
    b.record("fetched", card=CARD_A, holder="a", size_bytes=9, cached=False)
    b.record("tried", card=CARD_A, verdict="tested", labels=["3"], before_ppm=1, after_ppm=2, evidence="own")
    b.record("absorbed", card=CARD_A, model=MODEL_B1, base=MODEL_B0)
    b.record(
        "published", card=CARD_B, kind="weights", slot="s", version=1, size_bytes=9, labels={}, parents=[CARD_A], model=MODEL_B1
    )
    c.record("tried", card=CARD_A, verdict="untested")
    c.record("refused", card=CARD_A, why="no evidence")
    c.record("absorbed", card=CARD_B, model=MODEL_C)
    c.record("deployed", model=MODEL_C, sources=[CARD_B], learned_at_ms=[1])
    d.record("absorbed", card=CARD_A, model=digest_of(b"model d"))
    d.record("forgot", card=CARD_A)
    c.record("job", function="m:f", inputs=digest_of(b"in"), output=MODEL_C, flops=7, started_ns=5000, ended_ns=9000)
    c.record("fault", what="battery empty", at=Digest("not linked"))
