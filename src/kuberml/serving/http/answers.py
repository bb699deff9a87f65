"""How answers are written: JSON, raw float32, or safetensors, as `Accept` asks. Each names the model that gave it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
from aiohttp import web

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.continual.served import Served
from kuberml.learning.types import Array
from kuberml.serving.http.bodies import JSON, RAW, SAFETENSORS, SHAPE_HEADER, TYPES
from kuberml.serving.http.problem import Refusal
from kuberml.serving.http.slot import Past

MODEL_HEADER, MANIFEST_HEADER, LABELS_HEADER = "Kuberml-Model", "Kuberml-Manifest", "Kuberml-Labels"
LABELS_BYTES = 4096
"""Of the header with the labels; where they are longer, `/v1/models` tells them."""


class Prediction(msgspec.Struct, frozen=True):
    """What a row is taken for."""

    label: LabelId
    probability: float


class Predictions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request: all of it by one version.

    Attributes:
        model: digest of the predictor's bytes.
        manifest: digest of the set of knowledge that it is made of.
        number: of the version, 1, 2, ... here.
        labels: that it knows; columns of log_probabilities.
        predictions: one for each row.
        log_probabilities: [N, C], if they were asked for.
    """

    model: Digest
    manifest: Digest
    number: int
    labels: tuple[LabelId, ...]
    predictions: list[Prediction]
    log_probabilities: list[list[float]] | None = None


def accepted(accept: str) -> str:
    """The type that an Accept header asks for first, among those that are written here; nothing said is JSON.

    Raises:
        Refusal: 406, none of them.
    """
    best, chosen = 0.0, ""
    for part in accept.split(",")[:32] if accept.strip() else ["*/*"]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        known = {"*/*": JSON, "application/*": JSON}.get(name, name)
        if known in TYPES and weight > best:
            best, chosen = weight, known
    if not chosen:
        raise Refusal(406, "no answer of this type is written here", field="Accept", value=accept, right=" or ".join(TYPES))
    return chosen


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def named(served: Served | Past) -> dict[str, str]:
    """Headers of an answer: whose it is."""
    return {MODEL_HEADER: served.model, MANIFEST_HEADER: served.manifest}


def written(served: Served, answers_NC: Array, content_type: str, *, full: bool) -> web.Response:
    """The response with these log-probabilities.

    Raises:
        Refusal: 422, a row has no finite answer.
    """
    if not np.isfinite(answers_NC).all():
        row = int(np.argmin(np.isfinite(answers_NC).all(axis=1)))
        raise Refusal(422, "the model has no finite answer to this row: its numbers are far from what it was taught with",
                      field=f"inputs[{row}]", right="samples on the scale of those that the model learned from")  # fmt: skip
    headers = named(served)
    if content_type == JSON:
        return web.Response(body=_json(served, answers_NC, full=full), content_type=JSON, headers=headers)
    answers_NC = np.ascontiguousarray(answers_NC, "<f4")
    if content_type == SAFETENSORS:
        return web.Response(body=_safetensors(served, answers_NC), content_type=SAFETENSORS, headers=headers)
    headers[SHAPE_HEADER] = ",".join(map(str, answers_NC.shape))
    labels = json.dumps(served.predictor.labels)  # ASCII, as a header must be
    if len(labels) <= LABELS_BYTES:
        headers[LABELS_HEADER] = labels
    return web.Response(body=answers_NC.tobytes(), content_type=RAW, headers=headers)


def _json(served: Served, answers_NC: Array, *, full: bool) -> bytes:
    labels = tuple(served.predictor.labels)
    best_N = answers_NC.argmax(axis=1)
    chances_N = np.minimum(np.exp(answers_NC[np.arange(len(best_N)), best_N].astype(np.float64)), 1.0)
    pairs = zip(best_N.tolist(), chances_N.tolist(), strict=True)
    return msgspec.json.encode(
        Predictions(
            served.model, served.manifest, served.number, labels, [Prediction(labels[at], chance) for at, chance in pairs],
            answers_NC.tolist() if full else None,
        )
    )  # fmt: skip


def _safetensors(served: Served, answers_NC: Array) -> bytes:
    from safetensors.numpy import save

    about: dict[str, Any] = {
        "model": served.model,
        "manifest": served.manifest,
        "number": str(served.number),
        "labels": msgspec.json.encode(served.predictor.labels).decode(),
    }
    return bytes(save({"log_probabilities": answers_NC}, metadata=about))
