"""Kind `soft-labels`: what a teacher thinks of the samples of a public probe, in as few bytes as the receiver needs.

A teacher answers only for the labels that it *knows* (it learned from at least MIN_CLASS_COUNT samples of each): its
probabilities are taken over these, and the receiver learns under the mask (masked distillation). Forms, with the body of
300 samples x 10 known labels:

    dense-fp16   log-probabilities as float16                                     6,000 bytes
    dense-log8   log-probabilities in steps of 1/16 nat, down to e^-15.9          3,000 bytes
    top          the k largest, same steps; the rest is spread evenly    (k = 3)  1,350 bytes
    sampled      m labels drawn from the distribution; counts / m is unbiased (m = 8)  1,200 bytes

plus the sample ids, bit-packed as gaps: nothing if they are all of the probe's, else about 200 to 300 bytes.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest
from kuberml.core.values import value
from kuberml.knowledge import small_ints
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import Fault, check_labels, only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.withholding import MIN_CLASS_COUNT

Form = Literal["dense-fp16", "dense-log8", "top", "sampled"]
Array = npt.NDArray[np.float32]

STEPS_PER_NAT = 16
MAX_SAMPLES = 2**20
MAX_DRAWS = 255
MAX_ANSWERS = 2**26
"""Samples times labels, or draws."""
MAX_BYTES = 2 * MAX_ANSWERS
SLACK = 0.1
"""What rounding to half a step may add to or take from a sum of probabilities, with room."""

S = TypeVar("S", bound=np.generic)


@value
class SoftLabels(msgspec.Struct, frozen=True, eq=False):
    """A teacher's answers, held as they travel (N samples, K labels that the teacher knows). Made by `soften.soften`.

    Attributes:
        probe: the sample set, see `probe.probe_of`.
        labels: K sorted names of the labels that the teacher knows; of all others it says nothing.
        counts: samples of each that it learned from, MIN_CLASS_COUNT or more.
        sample_ids_N: int32 [N], ascending positions in the probe.
        form: see the top of the file.
        chosen_Nk: uint16 [N, k], positions in `labels`, of the k largest or of m draws (sorted); [N, 0] if dense.
        codes_Nk: dense: float16 [N, K] log-probabilities, or uint8 [N, K], -16 log p; top: uint8 [N, k]; sampled: [N, 0].
    """

    probe: Digest
    labels: tuple[LabelId, ...]
    counts: tuple[int, ...]
    sample_ids_N: npt.NDArray[np.int32]
    form: Form
    chosen_Nk: npt.NDArray[np.uint16]
    codes_Nk: npt.NDArray[np.float16] | npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.sample_ids_N)

    def mask(self, labels: tuple[LabelId, ...]) -> npt.NDArray[np.bool_]:
        """Which of the receiver's labels the teacher knows: bool [C]."""
        return np.array([name in self.labels for name in labels], bool)

    def dense(self, labels: tuple[LabelId, ...] | None = None, *, temperature: float = 1.0) -> Array:
        """Probabilities of the receiver's labels: float32 [N, C]; rows sum to 1 over the mask and are 0 elsewhere.

        Args:
            labels: the receiver's C labels; the teacher's own K if None. A row is 0 if the teacher knows none of them.
            temperature: softens to p^(1/T), normalised. Sampled answers take 1 only: a power of counts is biased.

        Raises:
            ConfigError: a temperature that is not positive, or not 1 for sampled answers.
        """
        if not 0 < temperature < float("inf") or (self.form == "sampled" and temperature != 1):
            raise ConfigError(f"temperature {temperature!r}: it is positive, and 1 for sampled answers")
        probs_NK = self._probabilities() if temperature == 1 else self._probabilities() ** (1 / temperature)
        wanted = self.labels if labels is None else labels
        place = {name: position for position, name in enumerate(self.labels)}
        p_NC = np.zeros((len(self), len(wanted)))
        for column, name in enumerate(wanted):
            if name in place:
                p_NC[:, column] = probs_NK[:, place[name]]
        total_N1 = p_NC.sum(axis=1, keepdims=True)
        return (p_NC / np.where(total_N1 > 0, total_N1, 1.0)).astype(np.float32)

    def _probabilities(self) -> npt.NDArray[np.float64]:
        count = len(self.labels)
        if self.form.startswith("dense"):
            return _weights(self)
        rows_N1 = np.arange(len(self))[:, None]
        if self.form == "sampled":
            counts_NK = np.zeros((len(self), count))
            np.add.at(counts_NK, (rows_N1, self.chosen_Nk.astype(np.int64)), 1.0)
            counts_NK /= self.chosen_Nk.shape[1]
            return counts_NK
        top_Nk = _weights(self)
        rest = count - top_Nk.shape[1]
        left_N1 = np.clip(1 - top_Nk.sum(axis=1, keepdims=True), 0, None) / max(rest, 1)
        probs_NK = np.repeat(left_N1, count, axis=1)
        probs_NK[rows_N1, self.chosen_Nk.astype(np.int64)] = top_Nk
        return probs_NK


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ids: bytes  # the first id, then gaps - 1, in gap_bits each
    chosen: bytes
    codes: bytes


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    form: Form
    samples: int
    k: int  # labels kept or drawn a sample; 0 if dense
    gap_bits: int


class SoftLabelsKind:
    """See `Kind`. One blob; a card's labels are the known ones with their counts, its basis is the probe."""

    name = "soft-labels"

    def __init__(self, min_class_count: int = MIN_CLASS_COUNT) -> None:
        """`min_class_count`: least samples of a label that the teacher learned from, in what is packed and opened."""
        self.min_class_count = min_class_count

    def pack(self, value: SoftLabels) -> Packed:
        """Raises ConfigError: arrays that do not fit each other, or a label on too few samples."""
        check(value, ConfigError, self.min_class_count)
        ids_N = value.sample_ids_N.astype(np.int64)
        gaps_N = np.concatenate([ids_N[:1], ids_N[1:] - ids_N[:-1] - 1])
        facts = _Facts(value.form, len(value), value.chosen_Nk.shape[1], small_ints.width_of(int(gaps_N.max())))
        width = small_ints.width_of(len(value.labels) - 1)
        body = _Body(small_ints.pack(gaps_N, facts.gap_bits), small_ints.pack(value.chosen_Nk, width), _raw(value.codes_Nk))
        labels = dict(zip(value.labels, value.counts, strict=True))
        return Packed((canonical.encode(body),), labels, value.probe, facts=msgspec.to_builtins(facts))

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> SoftLabels:
        """Raises RemoteError: damaged, other sizes than the card says, or probabilities that cannot be."""
        facts = read_facts(card, _Facts)
        labels = dict(sorted(card.labels.items()))
        _check_facts(facts, len(labels))
        body = _body(only_blob(card, blobs, MAX_BYTES))
        n, dense = facts.samples, facts.form.startswith("dense")
        gaps_N = small_ints.unpack(body.ids, n, facts.gap_bits)
        if small_ints.width_of(int(gaps_N.max())) != facts.gap_bits:
            raise RemoteError(f"gap_bits is {facts.gap_bits}, more than the sample ids need")
        ids_N = np.cumsum(gaps_N + 1) - 1
        if int(ids_N[-1]) >= 2**31:
            raise RemoteError("sample ids are over 2^31")
        chosen_Nk = small_ints.unpack(body.chosen, n * facts.k, small_ints.width_of(len(labels) - 1)).reshape(n, facts.k)
        width = len(labels) if dense else facts.k * (facts.form == "top")
        codes_Nk = _array(body.codes, np.dtype("<f2" if facts.form == "dense-fp16" else "u1"), (n, width))
        made = SoftLabels(
            check_digest(card.basis), tuple(labels), tuple(labels.values()), _kept(ids_N.astype(np.int32)), facts.form,
            _kept(chosen_Nk.astype(np.uint16)), codes_Nk,
        )  # fmt: skip
        check(made, RemoteError, self.min_class_count)
        return made


def _body(blob: bytes) -> _Body:
    try:
        return msgspec.convert(canonical.decode(blob), _Body, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not soft labels: {error}") from error


def _check_facts(facts: _Facts, known: int) -> None:
    dense = facts.form.startswith("dense")
    # Sizes are bounded before anything is unpacked: labels of no bits make many choices out of no bytes.
    answers = facts.samples * max(facts.k, known)
    if not 1 <= facts.samples <= MAX_SAMPLES or not 1 <= answers <= MAX_ANSWERS or not 0 <= facts.gap_bits <= 31:
        raise RemoteError(f"soft labels of {facts.samples} samples, {known} labels and gaps of {facts.gap_bits} bits cannot be")
    if (facts.k != 0) if dense else not 1 <= facts.k <= MAX_DRAWS:
        raise RemoteError(f"soft labels of form {facts.form} with k = {facts.k} cannot be")


def _array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    if len(data) != shape[0] * shape[1] * dtype.itemsize:
        raise RemoteError(f"codes of shape {shape} are not {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _raw(codes_Nk: npt.NDArray[Any]) -> bytes:
    return codes_Nk.astype(codes_Nk.dtype.newbyteorder("<"), copy=False).tobytes()


def _kept(array: npt.NDArray[S]) -> npt.NDArray[S]:
    array.flags.writeable = False
    return array


def check(soft: SoftLabels, fault: Fault, min_class_count: int) -> None:
    """Every rule of soft labels. Raises fault: one is broken."""
    if list(soft.labels) != sorted(set(soft.labels)) or len(soft.counts) != len(soft.labels) or not soft.labels:
        raise fault("labels are sorted, each once, with a count each, and at least one")
    check_labels(dict(zip(soft.labels, soft.counts, strict=True)), fault, minimum=min_class_count)
    ids_N = soft.sample_ids_N
    if ids_N.dtype != np.int32 or ids_N.ndim != 1 or not 1 <= len(ids_N) <= MAX_SAMPLES:
        raise fault(f"sample_ids_N is {ids_N.dtype} {ids_N.shape}; right is int32 [N] with 1 to {MAX_SAMPLES} samples")
    if int(ids_N[0]) < 0 or (np.diff(ids_N.astype(np.int64)) < 1).any():
        raise fault("sample ids are ascending positions, each once")
    _check_codes(soft, fault)


def _check_codes(soft: SoftLabels, fault: Fault) -> None:
    n, known, k = len(soft), len(soft.labels), soft.chosen_Nk.shape[-1]
    expected = {"dense-fp16": (0, known), "dense-log8": (0, known), "top": (k, k), "sampled": (k, 0)}.get(soft.form)
    if expected is None or soft.chosen_Nk.shape != (n, expected[0]) or soft.codes_Nk.shape != (n, expected[1]):
        raise fault(f"form {soft.form!r} with chosen {soft.chosen_Nk.shape} and codes {soft.codes_Nk.shape} cannot be")
    dtype = "float16" if soft.form == "dense-fp16" else "uint8"
    if soft.chosen_Nk.dtype != np.uint16 or soft.codes_Nk.dtype.name != dtype:
        raise fault(f"form {soft.form!r} has uint16 choices and {dtype} codes")
    if k:
        if not 1 <= k <= (MAX_DRAWS if soft.form == "sampled" else known) or int(soft.chosen_Nk.max()) >= known:
            raise fault(f"choices of {k} outside {known} labels")
        if (np.diff(soft.chosen_Nk.astype(np.int64), axis=1) < (0 if soft.form == "sampled" else 1)).any():
            raise fault("choices are sorted in each row")
    if soft.form == "dense-fp16":
        # One zero only: -0.0 would be a second encoding of the same answer.
        codes_NK = soft.codes_Nk
        if not (np.isfinite(codes_NK) & ((codes_NK < 0) | (codes_NK == 0) & ~np.signbit(codes_NK))).all():
            raise fault("log-probabilities are finite and 0 or less")
    if soft.form != "sampled":
        total_N = _weights(soft).sum(axis=1)
        if float(total_N.max()) > 1 + SLACK or (soft.form != "top" and float(total_N.min()) < 1 - SLACK):
            raise fault("probabilities of a sample do not sum to 1")


def _weights(soft: SoftLabels) -> npt.NDArray[np.float64]:
    """The probabilities that the codes say, as they are: rounded."""
    scale = 1.0 if soft.form == "dense-fp16" else -1.0 / STEPS_PER_NAT
    weights: npt.NDArray[np.float64] = np.exp(soft.codes_Nk.astype(np.float64) * scale)
    return weights
