"""Faults: real processes on one machine that are killed, stopped, cut off and starved, and the law that must hold after each.

    python -m tests.faults.soak --minutes 10 --seed 7 --json

The law: no accepted knowledge lost, none applied twice, no hand needed. *Accepted* is what a publisher's own journal says: the
hub took the announcement and answered `keep`. A supervisor that starts a dead process again is not a hand: an init system does
the same.
"""
