import subprocess
import sys

import msgspec
import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.errors import RemoteError
from kuberml.core.ids import digest_of
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.differences import difference
from kuberml.knowledge.kinds import KINDS
from kuberml.knowledge.kinds import prototypes as prototypes_kind
from kuberml.knowledge.kinds import statistics as statistics_kind
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import probe_from, probe_of
from kuberml.knowledge.kinds.sealed import Sealed
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.soften import soften

KEYS = Keys(b"k" * 32)
EXTRACTOR = Extractor("identity", {"dims": 3})
PROBE = probe_from(np.linspace(0, 1, 12).reshape(4, 3), list("abab"))
Z, Y = np.linspace(-1, 1, 36).reshape(12, 3) ** 3, list("ab" * 6)
OLD, NEW = (Weights({"w": np.full(9, fill, np.float32)}) for fill in (1.0, 1.5))

EXAMPLES = {
    "statistics": statistics_kind.describe(Z.astype(np.float32), Y, basis=basis_of(EXTRACTOR))[0],
    "weights": OLD,
    "delta": difference(OLD, NEW),
    "soft-labels": soften(
        np.log(np.full((4, 2), 0.5)), ("a", "b"), known={"a": 6, "b": 6}, probe=probe_of(PROBE), sample_ids_N=np.arange(4)
    ),
    "prototypes": prototypes_kind.describe(Z, Y, basis=basis_of(EXTRACTOR))[0],
    "probe": PROBE,
    "extractor": EXTRACTOR,
    "sealed": Sealed({"keys": np.arange(5, dtype=np.uint8), "words": np.arange(3, dtype=np.uint32)}),
}


def package(kind):
    return make(kind, EXAMPLES[kind], keys=KEYS, task="digits", slot="s", version=1, learned_at_ms=5)


def test_every_built_in_kind_has_an_example_here():
    assert set(EXAMPLES) <= set(KINDS.names())
    assert {KINDS.get(name).name for name in EXAMPLES} == set(EXAMPLES)


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_signed_packages_open_to_the_same_value(kind):
    opened = open_value(package(kind))
    assert type(opened) is type(EXAMPLES[kind])
    assert values.dumps(opened) == values.dumps(EXAMPLES[kind])
    assert package(kind) == package(kind)


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_one_wrong_bit_anywhere_in_a_blob_is_refused(kind):
    good = package(kind)
    for at in {0, len(good.blobs[0]) // 2, len(good.blobs[0]) - 1}:
        bad = bytearray(good.blobs[0])
        bad[at] ^= 1
        with pytest.raises(RemoteError):
            open_value(Knowledge(good.signed, (bytes(bad), *good.blobs[1:])))


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_a_package_under_another_kinds_name_is_refused(kind):
    good = package(kind)
    for other in sorted(set(EXAMPLES) - {kind}):
        card = msgspec.structs.replace(good.card, kind=other)
        with pytest.raises(RemoteError):
            KINDS.get(other).unpack(card, good.blobs)


def test_naming_the_kinds_imports_none_of_them():
    program = (
        "import sys, kuberml.knowledge.kinds as k; k.KINDS.names(); "
        "print(sorted(m for m in sys.modules if m.startswith('kuberml.knowledge.kinds.') or m == 'torch'))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_basis_of_a_package_is_that_of_its_extractor_or_probe():
    assert package("prototypes").card.basis == package("statistics").card.basis == package("extractor").card.blobs[0].digest
    assert package("soft-labels").card.basis == package("probe").card.blobs[0].digest
    assert package("delta").card.basis == package("weights").card.blobs[0].digest
    with pytest.raises(RemoteError, match="relative to"):
        open_value(package("prototypes"), basis=digest_of(b"another"))
