"""How long an engine takes for a batch, learned while it works: seconds = a + b rows, by weighted least squares."""

from __future__ import annotations

MEMORY = 0.97
"""Weight of what was known before, at each new batch: about the last 30 count."""


class Pace:
    """The two numbers. Old batches fade, so that a slower engine or a busier machine is noticed."""

    def __init__(self) -> None:
        self._n = self._x = self._xx = self._t = self._xt = 0.0

    def took(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        self._n = MEMORY * self._n + 1
        self._x = MEMORY * self._x + rows
        self._xx = MEMORY * self._xx + rows * rows
        self._t = MEMORY * self._t + seconds
        self._xt = MEMORY * self._xt + rows * seconds

    @property
    def known(self) -> bool:
        """Whether any batch was timed."""
        return self._n > 0

    def seconds(self, rows: int, batches: int = 1) -> float:
        """What so many rows in so many batches will take; 0 as long as nothing is known."""
        if not self._n or not rows:
            return 0.0
        a_s, b_s = self._fit()
        return batches * a_s + rows * b_s

    def _fit(self) -> tuple[float, float]:
        """Seconds of a batch and of a row, neither below 0. Batches of one size only: all of it is the rows'."""
        mean_x, mean_t = self._x / self._n, self._t / self._n
        spread = self._xx / self._n - mean_x**2
        each_s = mean_t / mean_x
        if spread <= 1e-9 * mean_x**2:
            return 0.0, each_s
        slope_s = (self._xt / self._n - mean_x * mean_t) / spread
        b_s = min(max(slope_s, 0.0), each_s)
        return mean_t - b_s * mean_x, b_s
