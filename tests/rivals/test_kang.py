"""cRT and LWS step by step, against numbers worked out from Kang et al.'s code and equations.

github.com/facebookresearch/classifier-balancing: run_networks.py (SGD with momentum 0.9 and decay
5e-4 on all parameters, the cosine rate set once an epoch, N // batch steps an epoch), the
configurations config/ImageNet_LT/cls_crt.yaml and cls_lws.yaml, data/ClassAwareSampler.py (classes
in random turns, four samples each) and models/TauNormClassifier.py (scales times W x + b, W and b
fixed). The numbers were worked out by a few lines of plain Python: softmax minus one-hot times x,
v = 0.9 v + g + 5e-4 w, w = w - rate v.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from alphafix.rivals.data import FitData
from alphafix.rivals.retrained import RETRAINED, LinearHead, ScaledHead, descent
from alphafix.rivals.training import HeadTraining, balanced_order, sgd
from alphafix.values.head import Head
from tests.rivals.problems import data_of

# A batch of eight is four samples of each class, in whatever order the sampler draws; all samples
# of a class are the same, so that every step sees the same batch.
POINTS = np.array([[1.0, 0.0], [0.5, 1.0]], dtype=np.float32)


def data(samples: int) -> FitData:
    labels = np.repeat([0, 1], [samples - 4, 4])
    head = Head(np.array([[1.0, 0.5], [0.2, 0.8]], np.float32), np.array([0.1, -0.3], np.float32))
    return data_of(POINTS[labels], labels, head)


def short(name: str, epochs: int = 3) -> HeadTraining:
    return replace(RETRAINED[name].training, epochs=epochs, batch=8)


@pytest.mark.parametrize(
    ("samples", "rows", "bias"),
    [
        # One step an epoch: rates 0.2, 0.15 and 0.05.
        (8, (0.07704981, -0.15217808), 0.00096077),
        # Two: what is left of 19 samples is no batch.
        (19, (0.23553139, -0.45091527), 0.01007375),
    ],
)
def test_crt__steps_are_those_of_the_code(
    samples: int, rows: tuple[float, float], bias: float
) -> None:
    head = LinearHead(torch.zeros(2, 2), torch.zeros(2), 1)
    slope = RETRAINED["crt"].slope(torch.tensor([4.0, 4.0]))
    sgd(head.parameters, descent(head, slope), data(samples), short("crt"), 0.2)
    expected = [list(rows), [-value for value in rows]]
    weight, biases = head.arrays()
    np.testing.assert_allclose(weight, expected, atol=1e-7)
    np.testing.assert_allclose(biases, [bias, -bias], atol=1e-7)


def test_lws__steps_are_those_of_the_code() -> None:
    given = data(16)
    head, slope = ScaledHead(given), RETRAINED["lws"].slope(torch.tensor([12.0, 4.0]))
    sgd(head.parameters, descent(head, slope), given, short("lws"), 0.2)
    (scales,) = head.parameters
    np.testing.assert_allclose(scales, [0.63340364, 1.36617691], atol=1e-6)
    rows, biases = head.arrays()
    np.testing.assert_allclose(
        rows, [[0.63340364, 0.31670182], [0.27323538, 1.09294153]], atol=1e-6
    )
    np.testing.assert_allclose(biases, [0.06334036, -0.40985307], atol=1e-6)


def test_settings__are_those_of_the_configurations() -> None:
    crt, lws = RETRAINED["crt"].training, RETRAINED["lws"].training
    assert vars(crt) == {
        "epochs": 10,
        "balanced": True,
        "batch": 512,
        "decay": 5e-4,
        "momentum": 0.9,
        "by_epoch": True,
    }
    assert vars(lws) == {**vars(crt), "epochs": 5}


def test_sampler__takes_four_samples_of_each_class_in_turn() -> None:
    labels = np.repeat([0, 1, 2], [50, 7, 3])
    drawn = labels[balanced_order(labels, np.random.default_rng(0))]
    turns = drawn.reshape(-1, 3, 4)
    assert (turns == turns[:, :, :1]).all()
    assert (np.sort(turns[:, :, 0], axis=1) == [0, 1, 2]).all()
