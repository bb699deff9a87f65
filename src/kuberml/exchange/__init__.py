"""How knowledge moves: the node, the hub, the broker, delivery and trial.

    a node              node, oneself, receiving (packages), testimony, place, memory, slots, talk, arrivals
    messages            wire, paging (of long lists)
    the hub             hub, offering, broker, majority (whose word counts there), withdrawn
    receiving           desk, parcel, delivery (the bytes), public (the extractor and the probe)
    trying              trials, trial (the rule), statistics (its tests), evidence, claims, standing (whose word counts here)
    what comes out      integrator; exact_head over exact_sum; soft_head, own_network
    adding up           gatherer (many packages as one), heads (solved already, for light receivers)
    other paradigms     crowd, gathering, pulled, states, tidings, split_turns; steps (on updates), policies (of servers)
    the cloud model     continual

Begin with node and desk: the rest is what these two use, or what a hub and other paradigms need.
"""
