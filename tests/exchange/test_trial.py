import numpy as np

from kuberml.exchange.trial import Change, Tally, TrialPlan, judge

PLAN = TrialPlan()
LABELS = ("0", "1", "2", "3")


def change(better: list[int], worse: list[int], count: list[int]) -> Change:
    return Change(LABELS, np.array(better), np.array(worse), np.array(count))


NOTHING = change([0, 0, 0, 0], [0, 0, 0, 0], [10, 10, 0, 0])


def test_own_data_that_get_better_are_a_tested_verdict() -> None:
    found = judge(change([9, 0, 0, 0], [0, 0, 0, 0], [10, 10, 0, 0]), {"0"}, {"0", "1"}, {}, {}, PLAN)
    assert (found.verdict, found.labels) == ("tested", {"0": "tested"})


def test_own_labels_that_get_worse_refuse_whatever_others_say() -> None:
    credit = {"2": Tally(1000, 1000)}
    found = judge(change([0, 0, 0, 0], [4, 0, 0, 0], [10, 10, 0, 0]), {"2"}, {"2"}, {}, credit, PLAN)
    assert found.verdict == "refused"
    assert "4 answers lost" in found.why


def test_a_label_that_is_lacking_is_taken_on_credit() -> None:
    found = judge(NOTHING, {"2", "3"}, {"2", "3"}, {}, {"2": Tally(19, 20)}, PLAN)
    assert found.verdict == "credit"
    assert found.labels == {"2": "credit", "3": "untested"}


def test_bad_witness_reports_refuse() -> None:
    assert judge(NOTHING, {"2"}, {"2"}, {}, {"2": Tally(3, 20)}, PLAN).verdict == "refused"


def test_without_evidence_it_stays_apart() -> None:
    found = judge(NOTHING, {"2"}, {"2"}, {}, {}, PLAN)
    assert found.verdict == "untested"
    assert not found.accepted
    assert judge(NOTHING, {"2"}, {"2"}, {}, {"2": Tally(3, 3)}, PLAN).verdict == "untested"  # three samples are no evidence


def test_knowledge_that_fails_alone_on_my_own_samples_is_refused() -> None:
    found = judge(NOTHING, {"2"}, {"0", "2"}, {"0": Tally(1, 10)}, {"2": Tally(20, 20)}, PLAN)
    assert found.verdict == "refused"
    assert "1 of 10" in found.why


def test_few_wrong_answers_are_no_failure_where_one_doubts() -> None:
    credit, doubting = {"2": Tally(20, 20)}, TrialPlan(bar=0.5, doubt=0.2)
    assert judge(NOTHING, {"2"}, {"0", "2"}, {"0": Tally(3, 8)}, credit, TrialPlan(bar=0.5)).verdict == "refused"
    assert judge(NOTHING, {"2"}, {"0", "2"}, {"0": Tally(3, 8)}, credit, doubting).verdict == "credit"
    assert judge(NOTHING, {"2"}, {"0", "2"}, {"0": Tally(2, 8)}, credit, doubting).verdict == "refused"


def test_standing_alone_is_a_test_where_nothing_is_left_to_win() -> None:
    found = judge(NOTHING, {"0"}, {"0"}, {"0": Tally(20, 20)}, {}, PLAN)
    assert found.verdict == "tested"


def test_the_hundredth_trial_on_the_same_data_needs_more() -> None:
    seen = change([5, 0, 0, 0], [0, 0, 0, 0], [10, 10, 0, 0])
    assert judge(seen, {"0"}, {"0"}, {}, {}, PLAN, uses=1).verdict == "tested"
    assert judge(seen, {"0"}, {"0"}, {}, {}, PLAN, uses=100).verdict == "untested"


def test_a_thousand_useless_deliveries_are_kept_out() -> None:
    """30 % poison, 70 % noise, judged by chance changes of 30 held-out answers: what is kept never costs an answer."""
    rng = np.random.default_rng(0)
    lost = 0
    for uses in range(1, 1001):
        flips = rng.binomial(30, 0.3 if uses % 10 < 3 else 0.02, size=2)
        better, worse = (0, flips[1]) if uses % 10 < 3 else tuple(flips)
        seen = change([better, 0, 0, 0], [worse, 0, 0, 0], [30, 10, 0, 0])
        if judge(seen, {"0"}, {"0"}, {}, {}, PLAN, uses=uses).accepted:
            lost = max(lost, worse - better)
    assert lost <= 0
