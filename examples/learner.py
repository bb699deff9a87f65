"""Two of these, who have never seen each other's digits, teach each other all ten.

kuberml hub                                                                # in one terminal
kuberml join --hub 127.0.0.1:7447 examples/learner.py 6 7 8 9              # in another
kuberml join --hub 127.0.0.1:7447 examples/learner.py 0 1 2 3 4 5          # in a third
"""

import sys
import time

import numpy as np

import kuberml
from kuberml.learning.datasets import DATASETS

digits = DATASETS.get("digits")  # ships inside: 8x8 images; put your own arrays or tensors in its place


def samples(split, labels):
    part = digits.split(split)
    those = np.isin(part.y_N, [digits.labels.index(label) for label in labels])
    return part.x_N[those], part.y_N[those]


mine = sys.argv[1:] or ["0", "1", "2", "3", "4"]
public = digits.split("public")  # samples that belong to nobody: what everybody describes his own with
kuberml.agree(task="digits", labels=digits.labels, x=public.x_N, y=public.y_N, levels=16)

with kuberml.join(task="digits", labels=digits.labels, data=samples("train", mine)) as me:
    me.publish(me.statistics())  # what I learned: counts, sums and products of features, no sample
    print(f"I know {', '.join(mine)}; the others will come from whoever knows them", flush=True)
    while lacking := set(digits.labels) - set(me.known()):
        for offer in me.want(*lacking):  # who knows that? best first
            trial = me.try_out(offer)  # on my own held-out data; others' verdicts; its claim run again
            if trial.accepted:
                me.absorb(trial)
        time.sleep(0.5)
    x, y = samples("test", set(digits.labels) - set(mine))
    right = np.mean(me.predict(x).argmax(axis=1) == y)
    print(f"{me.name}: {right:.0%} right on digits that I have never seen")
