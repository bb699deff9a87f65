"""The mathematics of steps on an update: pure functions of flat vectors [P]. Who sends what to whom: `exchange.steps`."""
