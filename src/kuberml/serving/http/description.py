"""The description, OpenAPI 3.1: paths written here, schemas from the structs, inputs as the model of the moment reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from kuberml import __version__
from kuberml.serving.http.answers import LABELS_HEADER, MANIFEST_HEADER, MODEL_HEADER, Predictions
from kuberml.serving.http.bodies import JSON, LARGEST, RAW, SAFETENSORS, SHAPE_HEADER, Form
from kuberml.serving.http.problem import CONTENT_TYPE, Problem
from kuberml.serving.http.schemas import Health, Models, Origin

REFERENCE = "#/components/schemas/{name}"
ANSWERS = (Predictions, Models, Origin, Health, Problem)
SAYS = {
    400: "something in the request is wrong; the answer names the field, the value and what would be right",
    404: "there is no such label or model",
    406: "no answer of this type is written",
    413: "too many bytes: they are not read",
    415: "a body of this type is not read",
    422: "the model has no finite answer",
    429: "busy: an answer would wait too long; try again after Retry-After seconds",
    503: "no model is served yet, or the service is stopping",
}


def described(form: Form | None) -> dict[str, Any]:
    """The description, for a model that reads `form`; None: of any."""
    _, schemas = msgspec.json.schema_components(ANSWERS, ref_template=REFERENCE)
    schemas["Predict"] = _predict(form)
    looks = {
        "/v1/models": _getting("What is served now, and what was lately", Models, MODEL_HEADER),
        "/v1/health": _health(),
        "/v1/origin": _origin(),
        "/metrics": _other("Numbers for Prometheus", "text/plain", {"type": "string"}),
        "/openapi.json": _other("This description", JSON, {"type": "object", "required": ["openapi"]}),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kuberml serve",
            "version": __version__,
            "description": "A model that edges keep fresh. Every answer names the model that gave it; /v1/origin says who"
            " taught a label.",
        },
        "paths": {
            "/v1/predict": {"post": _predicting(form)},
            **{path: {"get": get, "head": _head(get)} for path, get in looks.items()},
        },
        "components": {"schemas": schemas},
    }


def _predict(form: Form | None) -> dict[str, Any]:
    """A body of JSON, down to the length of every list."""
    nested: dict[str, Any] = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
    for size in reversed(form.shape if form else ()):
        nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
    rows: dict[str, Any] = {"type": "array", "items": nested if form else {}, "minItems": 1}
    if form:
        rows["maxItems"] = form.max_rows
    return {
        "title": "Predict",
        "description": "Rows to be answered.",
        "type": "object",
        "properties": {
            "inputs": rows,
            "log_probabilities": {"type": "boolean", "default": False, "description": "Answer with all of them."},
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }


def _predicting(form: Form | None) -> dict[str, Any]:
    shape = ",".join(["N", *map(str, form.shape)]) if form else "N,..."
    pattern = "".join(["^[1-9][0-9]*", *(f",{size}" for size in form.shape), "$"]) if form else "^[1-9][0-9]*(,[0-9]+)+$"
    raw = {"type": "string", "format": "binary", "contentMediaType": RAW}
    header = {
        "name": SHAPE_HEADER,
        "in": "header",
        "description": f"Of a raw body, for instance {shape}. Without it the rows are counted by the bytes.",
        "schema": {"type": "string", "pattern": pattern},
    }
    answer = {
        "description": "The answer to every row, by one version; raw: log-probabilities, little-endian float32 [N, C]",
        "content": {JSON: _schema(Predictions), RAW: {"schema": raw}, SAFETENSORS: {"schema": raw}},
        "headers": _headers(MODEL_HEADER, MANIFEST_HEADER, SHAPE_HEADER, LABELS_HEADER),
    }
    return {
        "operationId": "predict",
        "summary": "Answer rows",
        "description": "Rows come as JSON, as little-endian float32 bytes, or as safetensors with one tensor `inputs`. All rows"
        " of a request are answered by the same version.",
        "parameters": [header],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"$ref": REFERENCE.format(name="Predict")}},
                RAW: {"schema": raw},
                SAFETENSORS: {"schema": raw},
            },
        },
        "responses": {"200": answer, **_problems(400, 406, 413, 415, 422, 429, 503)},
    }


def _origin() -> dict[str, Any]:
    text = {"type": "string"}
    parameters = [
        {"name": "label", "in": "query", "required": True, "schema": text, "description": "A label of the model."},
        {"name": "model", "in": "query", "schema": text, "description": "Digest that an answer named; default: the one now."},
    ]
    found = _getting("Who taught a label: authors, cards, samples, when", Origin, MODEL_HEADER, MANIFEST_HEADER)
    found["responses"].update(_problems(400, 404, 503))
    return {"operationId": "origin", "parameters": parameters, **found}


def _health() -> dict[str, Any]:
    found = _getting("Whether a query would be answered now", Health)
    found["responses"]["503"] = {"description": "no model is served yet, or it is stopping", "content": {JSON: _schema(Health)}}
    return found


def _getting(summary: str, answer: type, *headers: str) -> dict[str, Any]:
    good: dict[str, Any] = {"description": summary, "content": {JSON: _schema(answer)}}
    if headers:
        good["headers"] = _headers(*headers)
    return {"summary": summary, "responses": {"200": good}}


def _head(get: dict[str, Any]) -> dict[str, Any]:
    """The same without the bodies: what monitors ask."""
    responses = {
        status: {name: part for name, part in response.items() if name != "content"}
        for status, response in get["responses"].items()
    }
    rest = {name: part for name, part in get.items() if name != "operationId"}
    return {**rest, "summary": f"{get['summary']}: the head alone", "responses": responses}


def _other(summary: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {content_type: {"schema": schema}}}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {"description": SAYS[status], "content": {CONTENT_TYPE: _schema(Problem)}}
        | ({"headers": _headers("Retry-After")} if status == 429 else {})
        for status in statuses
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}} for name in names}


def _schema(struct: type) -> dict[str, Any]:
    return {"schema": {"$ref": REFERENCE.format(name=struct.__name__)}}
