"""Models by name."""

from __future__ import annotations

import copy

from torch import nn

from alphafix.errors import InputError
from alphafix.oltr.models.attention import ModulatedAttention
from alphafix.oltr.models.backbones import build_backbone
from alphafix.oltr.models.heads import LinearHead, OLTRHead
from alphafix.oltr.models.network import LongTailModel, Network
from alphafix.oltr.models.ride import RideHead, RideNetwork, build_ride
from alphafix.oltr.models.routing import RoutedRide
from alphafix.oltr.models.spec import PRESETS, ModelSpec


def build_model(name: str, spec: ModelSpec, previous: LongTailModel | None = None) -> LongTailModel:
    """Build a model, which starts from the one of the stage before.

    A linear head and the network are taken over whole; an OLTR model takes over the network
    and gets its memory by `OLTRHead.initialise`, which needs the class means.

    Args:
        name: "linear", "oltr", "ride" or "ride-routing".
        spec: What it is built for.
        previous: The trained model, or None to start from random weights.

    Raises:
        InputError: If there is no such model, or ``previous`` is of another kind.
    """
    if name == "ride-routing":
        return _routed(previous)
    makers = {"linear": _linear, "oltr": _oltr, "ride": _ride}
    model = makers[name](spec)
    if previous is not None:
        _take_over(model, previous)
    return model


def _linear(spec: ModelSpec) -> LongTailModel:
    backbone = build_backbone(spec.backbone, input_channels=spec.input_channels)
    # The second stage's hallucinator starts from this classifier, so that both have to be of
    # one width; where the backbone's is that already, there is no layer to add.
    width = None if spec.width == backbone.channels else spec.width
    network = Network(backbone, None, width)
    return LongTailModel(network, LinearHead(network.width, spec.num_classes))


def _oltr(spec: ModelSpec) -> LongTailModel:
    backbone = build_backbone(spec.backbone, input_channels=spec.input_channels)
    parts = spec.ablations
    attention = None
    if parts.attention:
        size = backbone.map_size(spec.size, spec.size)
        attention = ModulatedAttention(backbone.channels, size, parts.attention_map)
    network = Network(backbone, attention, spec.width)
    head = OLTRHead(network.width, spec.num_classes, PRESETS[spec.preset], parts)
    return LongTailModel(network, head)


def _ride(spec: ModelSpec) -> LongTailModel:
    network = build_ride(spec.backbone, spec.input_channels, spec.experts)
    width = network.width // spec.experts
    return LongTailModel(network, RideHead(width, spec.num_classes, spec.experts))


def _routed(previous: LongTailModel | None) -> RoutedRide:
    network, head = (None, None) if previous is None else (previous.network, previous.head)
    if not isinstance(network, RideNetwork) or not isinstance(head, RideHead):
        raise _another_kind("the router is trained on a trained RIDE model", previous)
    # A copy, since all of it but the router is frozen.
    return RoutedRide(copy.deepcopy(network), copy.deepcopy(head))


def _take_over(model: LongTailModel, previous: LongTailModel) -> None:
    """Copy the weights of a model of the stage before, strictly."""
    network, given = model.network, previous.network
    try:
        network.backbone.load_state_dict(given.backbone.state_dict())
        if network.fc_add is not None and given.fc_add is not None:
            network.fc_add.load_state_dict(given.fc_add.state_dict())
        if isinstance(model.head, LinearHead):
            model.head.load_state_dict(previous.head.state_dict())
    except RuntimeError as error:
        raise _another_kind(str(error).splitlines()[0], previous) from error


def _another_kind(what: str, previous: nn.Module | None) -> InputError:
    return InputError(
        f"the first stage's model is of another kind: {what}",
        got="none" if previous is None else type(previous).__name__,
        expected="the model that the same method, backbone and classes gave",
        todo="train the first stage again",
    )
