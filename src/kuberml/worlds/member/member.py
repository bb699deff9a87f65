"""A user's own learner: a small synchronous face of Node and Desk for an existing training loop.

    with kuberml.join("127.0.0.1:7447", task="digits", labels=labels, data=(x, y)) as me:    # or a shared folder
        me.publish(me.statistics())
        for offer in me.want("7", "8"):
            trial = me.try_out(offer)
            if trial.accepted:
                me.absorb(trial)
        x_public, p_public = me.lesson()

Nothing here decides anything: delivery, witnesses, trial and merging are those of `exchange`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId, NodeId
from kuberml.core.reading import read
from kuberml.exchange.parcel import Trial
from kuberml.exchange.trial import TrialPlan
from kuberml.knowledge.card import Terms
from kuberml.knowledge.kinds.probe import probe_of
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.soften import soften
from kuberml.knowledge.want import Offer
from kuberml.learning.datasets import samples
from kuberml.learning.distillation import ask
from kuberml.learning.predictor import align
from kuberml.worlds.member.arrays import UNLIKELY, answers_of, inputs_from, is_tensor, targets_from, tensor_from
from kuberml.worlds.member.background import Background
from kuberml.worlds.member.meeting import Meeting, enter, where_to
from kuberml.worlds.member.naming import known_as
from kuberml.worlds.member.seat import Seat

T = TypeVar("T")
Kind = Literal["statistics", "soft-labels"]


def join(
    place: Path | str | None = None,
    *,
    task: str,
    name: str = "",
    labels: Sequence[LabelId],
    data: tuple[Any, Any] | None = None,
    kind: Kind = "statistics",
    heldout: float = 0.25,
    min_class_count: int = 5,
    key: Path | str | None = None,
    vault: Path | str | None = None,
    purpose: str = "",
    region: str = "",
    seed: int = 0,
    trial: dict[str, Any] | None = None,
) -> Member:
    """Join others. Close it (or use `with`) when done.

    Args:
        place: a hub's address, "host:port" (several with commas: the next where one is away); or a path, a shared folder,
            made if it is not there; None: $KUBERML_HUB, which `kuberml join` sets.
        task: what the knowledge is about, for instance "digits".
        name: yours: 1 to 64 letters, digits, `-`, `_`, `.`; default: made from the program, its arguments and the key.
        labels: names of all classes, in the order of your model's outputs.
        data: private samples, see `Member.hold`.
        kind: what you take in: "statistics" on the shared extractor, or "soft-labels" on the public probe.
        heldout: share of your samples that is kept back to try knowledge on.
        min_class_count: a class with fewer samples is not published.
        key: file of your secret key, drawn at first use; default `<name>.key` in the current folder.
        vault: folder for what you publish and fetch at a hub; default `<name>.vault`. A shared folder is a vault itself.
        purpose, region: what you use it for, and where; terms of others may ask.
        seed: of what is drawn.
        trial: how strict trials are, for instance {"bar": 0.3}; all settings: docs/trials.md.

    Raises:
        ConfigError: a name that cannot be or is taken, a folder or key file that cannot be used, or bad data.
        Unreachable: no hub answers at the address.
    """
    _check(task, labels, heldout, data)
    plan = read(TrialPlan, {} if trial is None else trial, "trial")
    where, me = where_to(place), known_as(name, key=key, vault=vault)
    background = Background(f"kuberml {me.node}")
    try:
        meeting = background.run(enter(where, me.node, me.keys, me.vault))
    except BaseException:
        background.close()
        raise
    try:
        seat = Seat(meeting, me.keys, task=task, labels=tuple(labels), kind=kind, heldout=heldout,
                    min_class_count=min_class_count, purpose=purpose, region=region, seed=seed, trial=plan)  # fmt: skip
        member = Member(background, meeting, seat)
        if data is not None:
            member.hold(*data)
    except BaseException:
        _leave(background, meeting)
        raise
    return member


def _check(task: str, labels: Sequence[LabelId], heldout: float, data: Any) -> None:
    if not isinstance(task, str) or not task:
        raise ConfigError(f"task = {task!r}: say what the knowledge is about, for instance 'digits'")
    names = labels if isinstance(labels, str) else list(labels)
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise ConfigError(f"labels = {names!r:.200}: give the names of the classes, each once")
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"labels = {names!r:.200}: names of classes are text, as in [str(label) for label in labels]")
    if data is not None and not (isinstance(data, tuple | list) and len(data) == 2):
        raise ConfigError(f"data = a {type(data).__name__}: give a pair, (samples, their labels)")
    if not isinstance(heldout, int | float) or not 0 < heldout < 1:
        raise ConfigError(f"heldout = {heldout!r}: the share held back for trials is over 0 and under 1, for instance 0.25")


def _leave(background: Background, meeting: Meeting) -> None:
    if not background.is_closed:
        try:
            background.run(meeting.close())
        finally:
            background.close()


class Member:
    """One learner among others; made by `join`. Its methods wait for their result; what it published is served meanwhile."""

    def __init__(self, background: Background, meeting: Meeting, seat: Seat) -> None:
        """`background`: the loop in which everything that waits runs, from now on the member's own."""
        self._background, self._meeting, self._seat = background, meeting, seat
        self._as_tensors = False

    @property
    def name(self) -> NodeId:
        """What others call me."""
        return self._seat.node.id

    def hold(self, x: Any, y: Any) -> None:
        """Use these private samples from now on. They are copied into memory of this process and never leave it.

        Args:
            x: N samples: a tensor [N, channels, H, W], an array [N, H, W, channels], or vectors [N, features].
            y: their labels, integers [N], positions in `labels`.

        Raises:
            ConfigError: shapes that do not fit, NaN, or a position outside `labels`.
        """
        self._as_tensors = is_tensor(x)
        self._wait(self._seat.hold(inputs_from(x), targets_from(y)))

    def statistics(self) -> Statistics:
        """What my data say on the shared extractor: counts, sums and products, no sample. Small classes are left out."""
        return self._wait(self._seat.head()).shared

    def soft_labels(self, model: Any, known: Mapping[LabelId, int] | None = None) -> SoftLabels:
        """What my model says about the public probe.

        Args:
            model: a `torch.nn.Module` or another callable that returns logits [N, C] in the order of `labels`.
            known: samples of each label that it learned from; default: mine, and those behind what was absorbed.

        Raises:
            ConfigError: the model answers in another shape.
        """
        probe = self._wait(self._seat.probe())
        answers_NC = answers_of(model, probe.inputs(), self._seat.labels)
        ids_N = np.arange(len(probe), dtype=np.int32)
        counts = self._seat.known() if known is None else known
        return soften(answers_NC, self._seat.labels, known=counts, probe=probe_of(probe), sample_ids_N=ids_N)

    def known(self) -> dict[LabelId, int]:
        """Samples of each label behind what is known here: my own, and those of the packages that were absorbed."""
        self._wait(self._seat.desk())
        return self._seat.known()

    def examine(self) -> None:
        """From now on, try every new version of a cloud model (`kuberml serve --evaluate`) on what of my data was held back.

        What is found is said to the hub, signed: right answers of each label, of the version and of the one before.

        Raises:
            ConfigError: no data are held here, or nobody has published an extractor.
        """
        self._wait(self._seat.examine())

    def publish(self, content: Any, *, slot: str = "", terms: Terms | None = None) -> Offer:
        """Pack, sign and share a value of any kind; it replaces what I published in this slot. The same again stays one.

        It returns when others can have it without me; where a hub is away for long, with a warning: it hands over later.

        Args:
            content: `statistics()`, `soft_labels(model)`, or a value of another kind, for instance `Weights`.
            slot: its place among my packages; default: the name of its kind.
            terms: under which others may use it.

        Raises:
            RemoteError: the hub refuses it, and says why.
            ConfigError: it breaks a rule of its kind; or these are statistics that differ from the version before by so few
                samples that whoever subtracts the two sees them.
        """
        return self._wait(self._seat.publish(content, slot, terms))

    def is_agreed(self) -> bool:
        """Whether somebody else has published an extractor and a probe for this task; see `kuberml.agree`."""
        return self._wait(self._seat.is_agreed())

    def want(self, *labels: LabelId) -> list[Offer]:
        """What others offer for labels that I lack, best first; without names, for all labels, those that I lack first.

        Raises:
            ConfigError: a label that the task does not have; or there are no data here to try knowledge on.
            RemoteError: the hub refuses to tell (in its realm you may not `find`).
        """
        unknown = [label for label in labels if label not in self._seat.labels]
        if unknown:
            raise ConfigError(f"want: {unknown} are not among the labels {list(self._seat.labels)}")
        return self._wait(self._seat.want(labels))

    def try_out(self, offer: Offer) -> Trial:
        """Deliver a package and try it for what I wanted last: on my held-out data, by witnesses, by its claims run again.

        Nothing is kept yet. A package that is refused is not offered to me again.
        """
        return self._wait(self._seat.try_out(offer))

    def absorb(self, trial: Trial) -> None:
        """Keep what a trial accepted. Raises ConfigError: it did not, or something else was absorbed since."""
        self._wait(self._seat.absorb(trial))

    def forget(self, trial: Trial) -> None:
        """Take what was absorbed out again, exactly as if it had never come. Raises ConfigError: it was not absorbed.

        This is about what is known here (`predict`, `lesson`). A network that learned from a lesson must be trained anew.
        """
        self._wait(self._seat.forget(trial.signed.digest))

    def predict(self, x: Any) -> Any:
        """Log-probabilities [N, C] over `labels` by everything known here, my data and what was absorbed; tensor for tensor."""
        model = self._wait(self._seat.desk()).model
        found_NC = align(model.predict(inputs_from(x)), model.labels, self._seat.labels, missing=UNLIKELY)
        return tensor_from(found_NC) if is_tensor(x) else found_NC

    def lesson(self) -> tuple[Any, Any]:
        """Everything known here as one more term for a training loop: samples of the public probe, and what to say of them.

            loss = cross_entropy(model(x), y) + cross_entropy(model(x_public), p_public)

        Returns:
            (x [M, ...], p [M, C]): inputs in the layout that `hold` was given, and probabilities over `labels`, 0 for those
            that nobody here knows. Their confidence is calibrated on my own samples.
        """
        probe, model = self._wait(self._seat.probe()), self._wait(self._seat.desk()).model
        answers = ask(model, probe.inputs(), self._seat.labels, own=samples(self._seat.node.data.train))
        pair = (answers.x_N, answers.probs_NC)
        return (tensor_from(pair[0]), tensor_from(pair[1])) if self._as_tensors else pair

    def close(self) -> None:
        """Leave; what was published stays. Calling it twice is fine."""
        _leave(self._background, self._meeting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._background.is_closed:
            work.close()
            raise ConfigError(f"{self.name} has left: its `with` block has ended, or close() was called; join again")
        return self._background.run(work)
