"""What `paradigms.py` compares: the cells of the grid, the settings of every paradigm, and what a run is reckoned to take.

A cell is one setting of data, model, spread of labels and graph. All train on the same budget: rounds x learners local epochs
in all. Whoever has rounds has that many; who has none is given the virtual time in which its devices do that many together (a
first guess here, corrected by what it does). Nothing here was chosen on the test set: `--group tune` judges on what learners
hold back, on a seed that no cell uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kuberml.learning.jobs import training_flops
from kuberml.learning.types import FitPlan
from kuberml.scenario.config import parse
from kuberml.scenario.stage import set_stage

FOREVER_S = 1e7
SHARED = {"extractor": {"name": "patch-filters", "options": {"filters": 32, "grid": 3}}}
KUBER = {"use": "kuber", "gather": True, "step_log2": 4, "ridge": 128.0, "looks": 60, "every_s": 10.0, "tries": 4,
         "patience_s": 20.0, "trial": {"tolerance": 1.0, "guard": 0.0, "bar": 0.3, "doubt": 0.2, "majority": True}}  # fmt: skip
"""Packets as in examples/fashion_mnist.toml, where they were chosen on public images; paradigms that stand on the extractor
share it. A look takes in four packages at most: whom the gathered sum does not help would else fetch one from everybody. The
trial was chosen by `--group tune` (`TRIALS`): all labels are wanted alike, with a handful of held-out samples one wrong
answer proves nothing, and who holds back two samples goes by what others say."""


@dataclass(frozen=True)
class Cell:
    """One setting. `test`: test images per learner, `points`: of the curve, `limit`: training images in all (0: every one).

    `lr`: of everybody; 0: what each paradigm's family was tuned to, in this cell (`rates`) or in the headline's (`TUNED`).
    """

    name: str
    dataset: str = "fashion-mnist"
    model: str = "lenet"
    partition: str = "dirichlet"
    spread: dict = field(default_factory=lambda: {"alpha": 0.1, "min_samples": 20})
    topology: str = "random-regular"
    degree: int = 6
    learners: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 15
    lr: float = 0.0
    rates: dict = field(default_factory=dict)
    batch: int = 10
    limit: int = 8_000
    test: int = 500
    points: int = 10
    targets: tuple[float, ...] = (0.5, 0.6, 0.7)
    judge: str = "test"
    paradigms: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    extractor: dict = field(default_factory=dict)
    measured: int = 10**9  # learners that accuracy is measured of, drawn by lot
    liars: int = 0
    for_s: float = 0.0  # a race: so much virtual time for everybody, whatever they do in it; 0: so many rounds

    def tree(self, label, seed):
        """The scenario of one paradigm."""
        learners = {"count": self.learners, "models": [self.model], "options": self.options, "liars": self.liars}
        data = {"dataset": self.dataset, "partition": self.partition, "options": self.spread, "heldout": 0.1,
                "public": 2000 if self.dataset == "fashion-mnist" else 1000 if self.dataset == "cifar10" else 200,
                "limit": self.limit, "judge": self.judge}  # fmt: skip
        places = {"devices": "charging-phones", "topology": self.topology, "degree": self.degree}
        tree = {"name": f"paradigms-{self.name}", "seed": seed, "data": data, "learners": learners, "places": places,
                "train": {"lr": self.lr or self.rates.get(family(label)) or TUNED[family(label)], "batch": self.batch},
                "extractor": self.extractor or SHARED["extractor"],
                "world": {"until_s": self.for_s or FOREVER_S, "curve_points": self.points}}  # fmt: skip
        return {**tree, "paradigms": {label: settings(self, label, {**tree, "paradigms": {"local": {}}}, seed)}}


ALL = ("local", "centralised", "fedavg", "fedprox", "scaffold", "fedadam", "fedyogi", "feddf", "fedasync", "fedbuff",
       "fedavg-head", "fed3r", "fedpft", "fedproto", "qkt", "split", "splitfed", "dpsgd", "epidemic", "adpsgd",
       "adpsgd-corrected", "divshare", "aedfl", "aedfl-uncorrected", "aedfl-no-staleness", "aedfl-dense", "kuber",
       "fedavg-long", "fedadam-long", "dpsgd-long")  # fmt: skip
SOME = ("fedavg", "scaffold", "fedadam", "fedbuff", "fed3r", "dpsgd", "epidemic", "adpsgd", "divshare", "aedfl", "kuber")
"""In the other cells of the grid."""
GRAPHS = {"seeds": (0, 1, 2), "paradigms": ("fedavg", "dpsgd", "adpsgd", "aedfl")}
"""Where only the graph differs: those that go by it, and FedAvg beside them, which does not."""

HEADLINE = Cell("headline", seeds=(0, 1, 2, 3, 4), paradigms=ALL, measured=40, points=8)
OTHERS = {"seeds": (0, 1, 2), "paradigms": SOME}
SLOW = {"rounds": 8, "limit": 5000, "test": 300, "points": 5, "targets": (0.4, 0.5, 0.6)}
COLOUR = {"dataset": "cifar10", "targets": (0.25, 0.3, 0.35)}
SCALE = {"model": "mlp", "options": {"mlp": {"hidden": [16]}}, "rounds": 3, "test": 1000, "points": 6, "limit": 0,
         "batch": 32, "lr": 0.1,
         "seeds": (0,), "measured": 100, "topology": "random-regular",
         "paradigms": ("kuber", "kuber-minute", "fedavg", "dpsgd", "split"),
         "extractor": {"name": "patch-filters", "options": {"filters": 16, "grid": 1}}, "targets": (0.5, 0.6, 0.7)}  # fmt: skip

UNTUNED = {"fedbuff": 0.03}
"""Outside the headline FedBuff goes by FedAvg's rate there: its own was tuned in the headline alone."""
RACE = replace(HEADLINE, name="race", rates=UNTUNED,
               learners=30, limit=4_000, for_s=120.0, rounds=100_000, seeds=(0, 1, 2), measured=30,
               points=24, test=300, targets=(0.3, 0.4, 0.5),
               paradigms=("fedavg", "fedbuff", "dpsgd", "epidemic", "adpsgd", "adpsgd-corrected", "aedfl", "aedfl-uncorrected",
                          "aedfl-no-staleness", "aedfl-dense", "fed3r", "kuber"))  # fmt: skip
"""Equal virtual time instead of equal work, for time to a target: whoever waits for nobody does more in it, and pays for it in
multiply-adds and energy, which the table says."""

HEAVY = ("split", "splitfed")
"""A message for every batch: half of the budget."""
LONG, TIMES = "-long", 4
"""So many times the budget: what equal work keeps from those that need more of it."""

CELLS = {
    cell.name: cell
    for cell in (
        HEADLINE,
        replace(HEADLINE, name="cifar10", rates=UNTUNED, **OTHERS, **COLOUR),  # train: batches 1-4, test: batch 5
        replace(HEADLINE, name="cnn", model="cnn", **OTHERS, **SLOW),
        replace(HEADLINE, name="resnet8", model="resnet8", **OTHERS, **SLOW),
        replace(
            HEADLINE,
            name="dirichlet-0.5",
            spread={"alpha": 0.5, "min_samples": 20},
            rates={"fedavg": 0.1, "scaffold": 0.1, "fedadam": 0.1, **UNTUNED},
            **OTHERS,
        ),
        replace(
            HEADLINE,
            name="shards-2",
            partition="shards",
            spread={"per_learner": 2},
            rates={"fedadam": 0.1, **UNTUNED},
            **OTHERS,
        ),
        replace(HEADLINE, name="ring", topology="ring", **GRAPHS),
        replace(HEADLINE, name="exponential", topology="exponential", **GRAPHS),
        RACE,
    )
}
SCALES = {
    f"scale-{count}": Cell(
        f"scale-{count}", learners=count, spread={"alpha": 0.1, "min_samples": min(20, 30_000 // count)}, degree=4, **SCALE
    )
    for count in (10, 100, 1000, 10_000)
}
for at_scale in ("scale-1000", "scale-10000"):  # sixty looks would be an hour of a core, and ten
    SCALES[at_scale] = replace(SCALES[at_scale], paradigms=("kuber-minute", *SCALE["paradigms"][2:]))
FAMILIES = ("fedavg", "scaffold", "fedadam", "dpsgd", "adpsgd", "aedfl")
TUNING = {
    f"tune-lr-{lr}": replace(HEADLINE, name=f"tune-lr-{lr}", lr=lr, seeds=(100,), judge="heldout", rounds=10,
                             test=200, points=4,
                             paradigms=(*FAMILIES, "split", "centralised", "fedbuff", "fedasync"))
    for lr in (0.01, 0.03, 0.1, 0.3)
}  # fmt: skip
TUNING |= {
    f"tune-{name}-{lr}": replace(CELLS[name], name=f"tune-{name}-{lr}", lr=lr, seeds=(100,), judge="heldout", rounds=10,
                                 test=200, points=4, rates={},
                                 paradigms=("scaffold",) if lr == 0.01 else FAMILIES)
    for name in ("cifar10", "dirichlet-0.5", "shards-2")
    for lr in (0.01, 0.03, 0.1, 0.3)
}  # fmt: skip
TRIALS = {
    "kuber-strict": {"bar": 0.5, "tolerance": 0.5, "guard": 0.0},
    "kuber-low-bar": {"bar": 0.3, "tolerance": 1.0, "guard": 0.0},
    "kuber-doubt": {"bar": 0.3, "tolerance": 1.0, "guard": 0.0, "doubt": 0.2},
    "kuber-majority": {"bar": 0.3, "tolerance": 1.0, "guard": 0.0, "doubt": 0.2, "majority": True},
}
"""How strict the trial of `kuber` is (`exchange.trial.TrialPlan`), from what it was before to what it is now."""
TUNING |= {
    f"tune-trial-{name}": replace(CELLS[name], name=f"tune-trial-{name}", seeds=(100,), judge="heldout", test=200, points=4,
                                  paradigms=tuple(TRIALS))
    for name in ("headline", "cifar10")
}  # fmt: skip
TUNING |= {
    f"tune-race-{lr}": replace(RACE, name=f"tune-race-{lr}", lr=lr, seeds=(100,), judge="heldout", for_s=60.0, points=6,
                               paradigms=("fedavg", "fedbuff", "dpsgd", "adpsgd", "aedfl", "aedfl-mu-6"))
    for lr in (0.03, 0.1, 0.3)
}  # fmt: skip
LIARS = {
    f"liars-{count}": replace(HEADLINE, name=f"liars-{count}", seeds=(0, 1, 2), liars=count,
                              paradigms=("fed3r", "kuber", "kuber-strict", "kuber-single"))
    for count in (20, 40)
}  # fmt: skip
"""Of the headline's hundred so many turn their labels by the same number of places, and confirm each other. `kuber-single`:
nobody adds up, everybody fetches and tries everybody's packet."""
SMOKE = {
    "smoke": Cell("smoke", dataset="digits", model="mlp", options={"mlp": {"hidden": [16]}}, learners=6, degree=2, rounds=2,
                  seeds=(0, 1), test=200, batch=32, points=3, limit=400, spread={"alpha": 0.5, "min_samples": 10},
                  targets=(0.2, 0.3, 0.9), lr=0.3, paradigms=("fedavg", "adpsgd", "aedfl", "split", "fed3r"), measured=4,
                  extractor={"name": "patch-filters", "options": {"filters": 8, "grid": 1}}),
}  # fmt: skip


def settings(cell, label, tree, seed):
    """The options of one paradigm in a cell."""
    base, is_long, _ = label.partition(LONG)
    if is_long:
        return settings(replace(cell, rounds=TIMES * cell.rounds), base, tree, seed)
    n, rounds, wait = cell.learners, cell.rounds, {"deadline_s": 1e5}
    central = {"rounds": rounds, **wait}
    if label.startswith(("adpsgd", "aedfl", "divshare")):
        unpaced = {"use": label.partition("-")[0], "for_s": cell.for_s or budget_s(cell, tree, seed)}
        variants = {"adpsgd-corrected": {"corrected": True}, "aedfl-uncorrected": {"corrected": False},
                    "aedfl-no-staleness": {"staleness": False}, "aedfl-dense": {"sparse": False},
                    "aedfl-mu-6": {"mu": 6.0}}  # fmt: skip
        return {**unpaced, **variants.get(label, {})}
    own = {
        "local": {"epochs": rounds},
        "centralised": {"epochs": rounds, **wait},
        "fedprox": {**central, "mu": 0.01},
        "fedasync": {"updates": n * rounds, **wait},
        "fedbuff": {"updates": n * rounds, "buffer": max(1, n // 10), **wait},
        "fedavg-head": {**central, "lr": 0.03},
        "fed3r": {"step_log2": 4, "ridge": 128.0, **wait},
        "fedpft": {"epochs": rounds, "lr": 0.03, "min_class_count": 5, **wait},
        "qkt": {"epochs": max(1, rounds - 2), "patience_s": 1e5},
        "dpsgd": {"rounds": rounds, "patience_s": 1e5},
        "epidemic": {"rounds": rounds, "patience_s": 1e5},
        "kuber": KUBER,
        "kuber-minute": {**KUBER, "looks": 6},
        "kuber-single": {**KUBER, "gather": False, "tries": 0, "looks": 12},
    }
    own |= {name: {**KUBER, "trial": trial} for name, trial in TRIALS.items()}
    return {"use": label, **own.get(label, {**central, "rounds": max(1, rounds // 2)} if label in HEAVY else central)}


def budget_s(cell, tree, seed):
    """Virtual seconds in which devices train rounds x learners epochs together, if each sends and receives a model for each."""
    stage = set_stage(parse(tree), seed, common=True)
    plan = FitPlan(TUNED["fedavg"], epochs=1, batch=cell.batch)
    epochs_s = [epoch_s(actor, plan) for actor in stage.learners]
    low, high = 0.0, max(epochs_s) * cell.rounds
    for _ in range(40):
        middle = (low + high) / 2
        done = sum(middle // one_s + 1 for one_s in epochs_s)
        low, high = (middle, high) if done < cell.rounds * cell.learners else (low, middle)
    return high


def epoch_s(actor, plan):
    """Seconds of one local epoch on a device, and of one model up and one down."""
    link, size_bits = actor.link, 32 * actor.learner.size
    training_s = training_flops(actor.learner, plan, len(actor.data.train)) / actor.device.flops_per_s
    return training_s + size_bits / link.up_bps + size_bits / link.down_bps + 4 * link.latency_ns / 1e9


TUNED = {
    "fedavg": 0.03,
    "fedbuff": 0.3,
    "fedasync": 0.1,
    "scaffold": 0.01,
    "fedadam": 0.3,
    "dpsgd": 0.1,
    "adpsgd": 0.1,
    "aedfl": 0.1,
    "split": 0.03,
    "centralised": 0.03,
}
"""Learning rates of 0.03, 0.1 and 0.3 (FedAvg, SCAFFOLD, split learning, FedBuff and FedAsync: 0.01, too) that did best in
`--group tune`: one of a family, for all of it."""
FAMILY = {"fedyogi": "fedadam", "epidemic": "dpsgd", "local": "dpsgd", "divshare": "adpsgd", "splitfed": "split"}
"""Whose rate others use; the rest goes by FedAvg's."""


def family(label):
    """Whose learning rate a paradigm goes by: that of what it is a variant of."""
    base = label.partition("-")[0]
    return FAMILY.get(base, base if base in TUNED else "fedavg")


FLOPS = {"lenet": 0.83e6, "cnn": 24.5e6, "resnet8": 18.7e6, "mlp": 0.03e6}
"""Of one image forward, 28x28x1; 32x32x3 take about half as many again."""


RATES = {"lenet": 6.5, "cnn": 45.0, "resnet8": 23.0, "mlp": 2.0}
"""GFLOP a second of one core in training, on a quiet machine: small layers are slow."""


def reckoned_s(cell, label, workers, speed):
    """Wall time of one run: training and measuring at a measured speed of one core, and a hundredth of a second a message."""
    images = {"fashion-mnist": 52_000, "cifar10": 36_000, "digits": 400}[cell.dataset]
    images = min(images, cell.limit or images)
    one = FLOPS[cell.model] * (1.5 if cell.dataset == "cifar10" else 1.0)
    served, rounds = min(cell.measured, cell.learners), cell.for_s / 2 if cell.for_s else cell.rounds
    trained = 0 if label.startswith(("fed3r", "fedpft", "kuber")) else images * rounds * (0.5 if label in HEAVY else 1)
    trained = trained * TIMES if label.endswith(LONG) else trained
    common = label == "centralised" or label.startswith(("fed", "scaffold", "kuber"))
    models = 1 if common else served
    judged = models * (cell.test * 2 + min(1000, cell.test) * cell.points + 1200)
    messages = cell.learners * rounds * 2
    messages = images / cell.batch * rounds if label in HEAVY else messages * (cell.degree if "psgd" in label else 1)
    return (3 * one * trained + one * judged) / (speed * RATES[cell.model] * 1e9 * workers) + 0.01 * messages + 5
