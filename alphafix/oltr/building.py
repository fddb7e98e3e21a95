"""Models and objectives from the names in `alphafix.oltr.methods`."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from alphafix.errors import InputError
from alphafix.oltr.attention import ModulatedAttention
from alphafix.oltr.backbones import build_backbone
from alphafix.oltr.heads import LinearHead, OLTRHead
from alphafix.oltr.losses.objectives import Focal, Lifted, Range, Ride, Routing
from alphafix.oltr.methods import Setting
from alphafix.oltr.model import LongTailModel
from alphafix.oltr.network import Network
from alphafix.oltr.objectives import CrossEntropy, Objective, OLTRObjective
from alphafix.oltr.presets import PRESETS
from alphafix.oltr.ride import RideHead, RideNetwork, build_ride
from alphafix.oltr.routing import RoutedRide


def build_model(
    name: str, setting: Setting, previous: LongTailModel | None = None
) -> LongTailModel:
    """Build a model, which starts from the one of the stage before.

    A linear head and the network are taken over whole; an OLTR model takes over the network
    and gets its memory by `OLTRHead.initialise`, which needs the class means.

    Args:
        name: As in `alphafix.oltr.methods.StageSpec`.
        setting: What it is built for.
        previous: The trained model, or None to start from random weights.

    Raises:
        InputError: If there is no such model, or ``previous`` is of another kind.
    """
    if name == "ride-routing":
        return _routed(previous)
    makers = {"linear": _linear, "oltr": _oltr, "ride": _ride}
    model = makers[name](setting)
    if previous is not None:
        _take_over(model, previous)
    return model


def build_objective(name: str, model: LongTailModel, setting: Setting) -> Objective:
    """Build a loss for a model that `build_model` made."""
    counts = torch.from_numpy(setting.counts)
    makers: dict[str, Callable[[], Objective]] = {
        "cross-entropy": CrossEntropy,
        "focal": Focal,
        "lifted": Lifted,
        "range": Range,
        "ride": lambda: Ride(counts),
    }
    if isinstance(model, RoutedRide):
        return Routing(model)
    if name == "oltr" and isinstance(model.head, OLTRHead):
        return OLTRObjective(model.head)
    return makers[name]()


def _linear(setting: Setting) -> LongTailModel:
    backbone = build_backbone(setting.backbone, input_channels=setting.input_channels)
    # The second stage's hallucinator starts from this classifier, so that both have to be of
    # one width; where the backbone's is that already, there is no layer to add.
    width = None if setting.width == backbone.channels else setting.width
    network = Network(backbone, None, width)
    return LongTailModel(network, LinearHead(network.width, setting.num_classes))


def _oltr(setting: Setting) -> LongTailModel:
    backbone = build_backbone(setting.backbone, input_channels=setting.input_channels)
    parts = setting.ablations
    attention = None
    if parts.attention:
        size = backbone.map_size(setting.size, setting.size)
        attention = ModulatedAttention(backbone.channels, size, parts.attention_map)
    network = Network(backbone, attention, setting.width)
    head = OLTRHead(network.width, setting.num_classes, PRESETS[setting.preset], parts)
    return LongTailModel(network, head)


def _ride(setting: Setting) -> LongTailModel:
    network = build_ride(setting.backbone, setting.input_channels, setting.experts)
    width = network.width // setting.experts
    return LongTailModel(network, RideHead(width, setting.num_classes, setting.experts))


def _routed(previous: LongTailModel | None) -> RoutedRide:
    if previous is None or not isinstance(previous.network, RideNetwork):
        raise _another_kind("the router is trained on a trained RIDE model", previous)
    if not isinstance(previous.head, RideHead):
        raise _another_kind("the router is trained on a trained RIDE model", previous)
    width = previous.network.width // len(previous.head.experts)
    # A copy, since all of it but the router is frozen.
    return RoutedRide(copy.deepcopy(previous.network), copy.deepcopy(previous.head), width)


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
