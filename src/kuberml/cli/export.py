"""`kuberml export`: a published model as ONNX or OpenVINO IR, its answers checked against the model's; or its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.output import json_out, say, table_out
from kuberml.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from kuberml.learning.predictor import Predictor
    from kuberml.learning.types import Samples
    from kuberml.vault.folder import FolderStore

FORMATS = ("onnx", "openvino", "safetensors")
_ENDINGS = {".xml": "openvino", ".safetensors": "safetensors"}
CHECKED_ON = 1000
"""Samples of a data set that answers are compared on, at most."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml export my-vault 3f9c01 model.onnx --to onnx --data digits[/bold] ·"
        " [bold]kuberml export kuberml-serve/vault a01b model.onnx --data digits[/bold] ·"
        " [bold]kuberml export my-vault 77ab model.xml --to openvino --model lenet --shape 28,28,1[/bold] ·"
        " [bold]kuberml export my-vault 77ab model.safetensors[/bold]"
    )(export)


def export(
    vault: Annotated[Path, typer.Argument(help="A vault folder.")],
    card: Annotated[
        str,
        typer.Argument(
            help="Weights or statistics in it: the first characters of the card's digest. Or a version that was served:"
            " of its manifest."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The file: .onnx, .xml with a .bin beside it, or .safetensors.")],
    *,
    to: Annotated[str, typer.Option("--to", help="onnx, openvino or safetensors. Default: by the file's ending.")] = "",
    data: Annotated[str, typer.Option("--data", help="A data set: its shape, and test samples to check on.")] = "",
    shape: Annotated[str, typer.Option("--shape", help="Without a data set: of one sample, as in 28,28,1.")] = "",
    model: Annotated[str, typer.Option("--model", help="Of weights: the architecture, for instance lenet.")] = "",
    bound: Annotated[float, typer.Option("--bound", help="How far a probability may be off.")] = 0.002,
    json: Annotated[bool, typer.Option("--json", help="What was checked, as JSON on stdout.")] = False,
) -> None:
    """Write a model as a graph that other runtimes serve, from samples to log-probabilities.

    Its answers are compared with the model's; a graph that is another model is not written. What was compared is in OUT.json.
    Statistics need their extractor in the same vault. What a service serves is a version of its vault, as
    [bold]kuberml serve history[/bold] names it.

    To .safetensors, weights leave as the tensors that were published: no data, no shape, no architecture is asked for.
    """
    from kuberml.cli.vaults import opened
    from kuberml.serving.engines.export import beside
    from kuberml.serving.engines.export import export as write

    to = to or _ENDINGS.get(out.suffix, FORMATS[0])
    if to == "safetensors":
        _tensors(vault, card, out, json=json)
        return
    if to not in FORMATS:
        raise ConfigError(f"--to: unknown {to!r}; {nearest(to, FORMATS)}")
    if not 0 < bound <= 1:
        raise ConfigError(f"--bound must be above 0 and at most 1, not {bound}")
    samples, sample_shape = _checked_on(data, shape)
    with opened(vault) as store:
        predictor = _predictor(store, card, sample_shape, model)
    found = write(predictor, sample_shape, to, out, data=samples, bound=bound)  # type: ignore[arg-type]
    if json:
        json_out(found)
    else:
        files = [out, *([out.with_suffix(".bin")] if to == "openvino" else []), beside(out)]
        rows: list[tuple[str, Any]] = [("written", ", ".join(map(str, files))), ("labels", ", ".join(found.labels))]
        drawn = "" if samples is not None else " drawn at random (--data compares on real ones)"
        rows += [("same first label", f"{found.agreement:.4f} of {found.samples} samples{drawn}")]
        rows += [("a probability is off by", f"{found.worst:.2g} at most")]
        if found.accuracy is not None:
            rows += [("accuracy", f"{found.accuracy:.4f}, the model's {found.reference:.4f}, of {found.labelled} samples")]
        table_out(("what", "here"), rows)
        if to == "onnx":
            say(f"an edge serves it without torch: kuberml.serving.engines.light.load({str(out)!r})")


def _tensors(vault: Path, card: str, out: Path, *, json: bool) -> None:
    from kuberml.cli.show import row_of
    from kuberml.cli.tensor_file import write_tensors
    from kuberml.cli.vaults import opened

    with opened(vault) as store:
        signed = write_tensors(store, card, out)
    if json:
        json_out({**row_of(signed), "file": str(out)})
    else:
        say(f"written {out}, the tensors of {signed.digest[:12]}; they are as {signed.card.author[:12]} signed them")


def _checked_on(data: str, shape: str) -> tuple[Samples | None, tuple[int, ...]]:
    if bool(data) == bool(shape):
        raise ConfigError("say what samples look like: --data NAME, or --shape 28,28,1")
    if shape:
        sides = shape.split(",")
        if not all(side.isdecimal() and 0 < int(side) <= 1 << 20 for side in sides):
            raise ConfigError(f"--shape {shape}: right are whole numbers as in 28,28,1")
        return None, tuple(int(side) for side in sides)
    import numpy as np

    from kuberml.learning.datasets import DATASETS, samples
    from kuberml.learning.types import DataRef

    known = DATASETS.get(data)
    count = min(CHECKED_ON, known.size("test"))
    evenly = np.linspace(0, known.size("test") - 1, count).astype(np.int32)
    return samples(DataRef(data, "test", evenly)), tuple(known.shape)


def _predictor(store: FolderStore, start: str, shape: tuple[int, ...], model: str) -> Predictor:
    """The predictor that a card's package is, or a version that a service served.

    Raises:
        ConfigError: neither begins so, its kind is none, or something that it needs is missing.
    """
    from kuberml.cli.vaults import knowledge, pick
    from kuberml.exchange.continual.again import served_before
    from kuberml.knowledge.kinds.statistics import Merged, Statistics, solve, sums_of
    from kuberml.knowledge.kinds.weights import Weights
    from kuberml.knowledge.pack import open_value
    from kuberml.learning.predictor import HeadOn, Network
    from kuberml.learning.torch_learner import TorchLearner

    if not any(card.startswith(start) for card in store.cards()) and store.memory().get("cloud"):
        head = served_before(store, start)
        return HeadOn(_extractor(store, head.basis), head, shape)
    package = knowledge(store, pick(store, start))
    value = open_value(package)
    if isinstance(value, Statistics | Merged):
        sums = sums_of(value)
        return HeadOn(_extractor(store, sums.basis), solve(sums), shape)
    if not isinstance(value, Weights):
        raise ConfigError(f"a package of kind {package.card.kind!r} is no model: right are weights and statistics")
    labels = value.outputs or tuple(sorted(value.labels))
    if not model:
        raise ConfigError(
            f"weights do not say their architecture: add --model, for instance --model lenet ({len(labels)} labels)"
        )
    learner = TorchLearner(model, shape, labels)
    return Network(learner, learner.state_of(value.tensors))


def _extractor(store: FolderStore, basis: str) -> Any:
    """The extractor of a basis. Raises ConfigError: the vault does not have it."""
    from kuberml.cli.vaults import knowledge, signed_cards
    from kuberml.knowledge.kinds.extractor import basis_of
    from kuberml.knowledge.pack import open_value

    for signed in signed_cards(store):
        if signed.card.kind == "extractor" and signed.card.blobs[0].digest == basis:
            found = open_value(knowledge(store, signed.digest))
            if basis_of(found) == basis:
                return found
    raise ConfigError(f"the extractor {basis[:12]} under these statistics is not in the vault: fetch it first")
