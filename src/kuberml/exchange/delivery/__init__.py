"""Delivery: the bytes of a card's blobs, verified piece by piece while they arrive, from everybody who holds them.

    facade      Delivery: deliver (into the store), collect and fetch (into memory), prefix
    transfer    one blob: reads under way, what comes back, who is believed
    intake      the bytes of one read, verified while they come
    plan        which window is asked for next (pure)
    sources     who is asked (pure)
    adopt       what is here already: of an earlier try, and pieces of other blobs
    progress    what a delivery says of itself, while it runs and at its end

A wrong piece costs that piece: its source is named and avoided. A source that hangs or is slow is passed by: what is late is
asked for elsewhere too, and the first answer wins. What was verified is never asked for again, also after a kill.
"""

from kuberml.exchange.delivery.facade import Delivery
from kuberml.exchange.delivery.progress import Delivered, Progress

__all__ = ["Delivered", "Delivery", "Progress"]
