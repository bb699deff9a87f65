"""What members agree on once: a frozen extractor and a public probe. Both are knowledge, published like any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import probe_from
from kuberml.learning.extractors import identity, patch_filters
from kuberml.worlds.alone import alone
from kuberml.worlds.member.arrays import inputs_from, targets_from
from kuberml.worlds.member.member import join
from kuberml.worlds.member.naming import known_as

SMALL_PX = 16


def agree(
    place: Path | str | None = None,
    *,
    task: str,
    labels: Sequence[LabelId],
    x: Any,
    y: Any = None,
    extractor: Extractor | None = None,
    levels: int = 255,
    name: str = "",
    key: Path | str | None = None,
    vault: Path | str | None = None,
) -> bool:
    """Publish the extractor and the probe that everybody uses for a task, unless somebody has: every program may begin with it.

    Two who do so at once with the same samples publish the same bytes, so that it does not matter whose are used.

    Args:
        place: where, as in `join`.
        task: what it is about.
        labels: names of the classes.
        x: public samples 0..1, N of them: a tensor [N, channels, H, W], an array [N, H, W, channels], or [N, features].
            They are published: never private ones.
        y: their labels, integers [N], positions in `labels`; with them claims can be run again by anybody. None: unknown.
        extractor: see `learning.extractors`; default: patch filters learned from images, vectors as they are.
        levels: grey values beyond 0, for the probe's bytes: 255, or fewer (16 for the 8x8 digits).
        name: under which it is published, with keys of its own in `key`; default: made from `commons` and the key.
        vault: as in `join`.

    Returns:
        Whether this call published them (again, where `name` or the key did before); False: somebody else had.

    Raises:
        ConfigError: samples outside 0..1 or of an odd shape, or positions outside `labels`.
    """
    x_N = inputs_from(x)
    if not len(x_N):
        raise ConfigError("x: there is no sample in it; some hundred public ones make a probe")
    names = None
    if y is not None:
        y_N = targets_from(y)
        if len(y_N) != len(x_N) or not 0 <= int(y_N.min()) <= int(y_N.max()) < len(labels):
            raise ConfigError(f"y: {len(x_N)} positions of 0..{len(labels) - 1} are needed, one for each sample")
        names = [labels[position] for position in y_N]
    probe = probe_from(x_N, names, levels=levels)
    me = known_as(name, key=key, vault=vault, stem="commons")
    with alone(me.key), join(place, task=task, name=me.node, labels=labels, key=me.key, vault=me.vault) as commons:
        if commons.is_agreed():
            return False
        commons.publish(extractor or _usual(x_N), slot="extractor")
        commons.publish(probe, slot="probe")
    return True


def _usual(x_N: Any) -> Extractor:
    """Few and small features where images are small: a packet of statistics grows with their square."""
    if x_N.ndim == 2:
        return identity(x_N.shape[1])
    small = min(x_N.shape[1:3]) < SMALL_PX
    return patch_filters(x_N, patch=3 if small else 6, filters=32, grid=2, sides=1, components=64 if small else 128)
