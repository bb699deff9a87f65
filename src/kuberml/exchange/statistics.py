"""The few tests that a trial needs, exact and on integers: no approximation that fails at small counts."""

from __future__ import annotations

from math import comb, exp, lgamma, log


def binomial_tail(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, p)."""
    if successes <= 0:
        return 1.0
    if p <= 0.0 or successes > trials:
        return 0.0
    if p >= 1.0:
        return 1.0
    terms = (_log_mass(k, trials, p) for k in range(successes, trials + 1))
    return min(1.0, sum(exp(term) for term in terms))


def sign_test(better: int, worse: int) -> float:
    """One-sided exact sign test (McNemar): P of at least `better` of the changed answers improving, if nothing changed.

    Small: improvement that chance does not explain. 1.0 when nothing changed.
    """
    changed = better + worse
    return sum(comb(changed, k) for k in range(better, changed + 1)) / 2**changed if changed else 1.0


def shows_recall(correct: int, count: int, recall: float, alpha: float) -> bool:
    """Whether a recall of at least this is shown at confidence 1 - alpha: the one-sided bound of Clopper and Pearson, 1934.

    The bound is the recall at which so many right answers have the chance alpha; it need not be found to compare with it.
    """
    return recall <= 0 or binomial_tail(correct, count, recall) <= alpha


def shows_failure(correct: int, count: int, recall: float, alpha: float) -> bool:
    """Whether less than this recall was seen, and so few right answers have at most the chance `alpha` if it were reached."""
    return count > 0 and correct / count < recall and binomial_tail(count - correct, count, 1 - recall) <= alpha


def spent(alpha: float, uses: int) -> float:
    """The error allowed to the `uses`-th test (from 1) on the same held-out data: alpha / (k (k + 1)), which sums to alpha."""
    return alpha / (uses * (uses + 1))


def _log_mass(k: int, n: int, p: float) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)
