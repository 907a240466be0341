"""What `:dropout` answers of one row: dropout at work, in numbers small enough to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.draw import Draw
from models.estimators import estimate
from models.network_picture import NetworkPicture, cut_layers, picture_network
from models.sampling import Plan
from models.table import Schema
from models.trace import LayerTrace, trace_dropout, with_probability
from models.uncertainty import moments
from service import answers
from service.computation import eval_values
from service.loading import LoadedVersion
from service.schemas import DropoutRequest

Row = dict[str, Any]


def plan_for(loaded: LoadedVersion, request: DropoutRequest) -> Plan:
    """The version's network, with another p where the request wishes for one."""
    return loaded.plan if request.p is None else with_probability(loaded.plan, request.p)


def count_shown(plan: Plan, request: DropoutRequest) -> int:
    """Mask values that the answer will have, at most."""
    most = request.max_units
    if most is None:
        return sum(site.size for site in plan.sites if site.is_active)
    return sum(
        min(site.size, most * most if site.kind == "dropconnect" else most)
        for site in plan.sites
        if site.is_active
    )


def look(loaded: LoadedVersion, request: DropoutRequest, instance: Any, seed: int) -> Row:
    """The body of the answer.

    Raises:
        EncodeError: the row does not fit the schema.
        NotStochasticError: the model has no dropout.
        NonFiniteError: an answer would not be a finite number.
    """
    schema, plan = loaded.artifact.schema, plan_for(loaded, request)
    encoded = schema.encode([instance])
    x = torch.from_numpy(encoded.inputs)
    drawn = estimate(
        plan, schema.target, x, Draw(n_samples=request.n_samples, seed=seed, keep_samples=True)
    )
    assert drawn.samples is not None
    samples = drawn.samples[:, 0]
    counts = np.arange(1, len(samples) + 1).reshape(-1, *[1] * (samples.ndim - 1))
    trace = trace_dropout(plan, x, seed=seed, n_samples=request.n_samples, sample=request.sample)
    evaluated = eval_values(loaded, encoded.inputs)
    mean, std = moments(drawn.summary)
    shown: Row = {"layers": [_layer(layer) for layer in trace.layers]}
    if request.max_units is not None:
        picture = picture_network(plan, request.max_units)
        layers = cut_layers(trace.layers, picture)
        shown["layers"] = [_layer(layer) | {"shown": at.tolist()} for layer, at in layers]
        shown["network"] = _network(schema, encoded.inputs[0], picture)
    return {
        "model": loaded.model,
        "version": loaded.version,
        "mode": "mc_dropout",
        "seed": seed,
        "n_samples": request.n_samples,
        "sample": request.sample,
        **shown,
        "eval_output": answers.predictions(schema.target, evaluated)[0],
        "outputs": answers.series(schema.target, samples),
        "running_mean": answers.series(schema.target, samples.cumsum(axis=0) / counts),
        "mc_output": {
            name: answers.series(schema.target, values)[0]
            for name, values in (
                ("mean", mean),
                ("std", std),
                ("standard_error", drawn.summary.standard_error),
            )
        },
        "fraction_dropped": trace.fraction_dropped,
        **({"flags": encoded.flags[0]} if encoded.flags[0] else {}),
    }


def _layer(layer: LayerTrace) -> Row:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "p": layer.p,
        "scale": layer.scale,
        "units": layer.units,
        "eval_activations": layer.eval_activations.tolist(),
        "sample_activations": layer.sample_activations.tolist(),
        "mask": layer.mask.tolist(),
        "masked_activations": layer.masked_activations.tolist(),
        "fraction_dropped": layer.fraction_dropped,
    }


def _network(schema: Schema, inputs: np.ndarray, picture: NetworkPicture) -> Row:
    """The layers from left to right, and the weights of the links between neighbours."""
    last = len(picture.sizes) - 1
    layers: list[Row] = [
        {"name": f"hidden {i}", "units": size, "shown": shown.tolist()}
        for i, (size, shown) in enumerate(zip(picture.sizes, picture.shown, strict=True))
    ]
    names = {0: schema.input_names, last: list(schema.target.labels) or [schema.target.name]}
    for i, labels in names.items():
        layers[i]["labels"] = [labels[unit] for unit in picture.shown[i]]
    layers[0] |= {"name": "input", "values": inputs[picture.shown[0]].tolist()}
    layers[last]["name"] = "output"
    return {"layers": layers, "links": [link.tolist() for link in picture.links]}
