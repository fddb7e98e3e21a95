"""Every equation of the method in both presets, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.losses.centroids import margin_loss, official_loss
from alphafix.oltr.losses.objectives import OLTRObjective
from alphafix.oltr.models.heads import CosineClassifier, OLTRHead, Output, squash
from alphafix.oltr.models.memory import Memory, nearest_distance, reachability
from alphafix.oltr.models.spec import OFFICIAL, PAPER, PRESETS, Ablations, Preset

# Two features of length 5 and 2, two centroids at distances 1 and 5, and 3 and 2.
DIRECT = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
CENTROIDS = torch.tensor([[3.0, 5.0], [0.0, 0.0]])
LABELS = torch.tensor([0, 1])


def set_linear(layer: torch.nn.Linear, weight: list[list[float]], bias: list[float]) -> None:
    """Give a layer these weights."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))


def head_by_hand(preset: Preset, ablations: Ablations | None = None) -> OLTRHead:
    """A head whose memory gives o = (1/4, 3/4), by softmax or as it is, and e = 1/2 all over."""
    head = OLTRHead(2, 2, preset, ablations or Ablations())
    head.start_centroids(CENTROIDS)
    o = [0.0, math.log(3)] if preset.hallucinator_softmax else [0.25, 0.75]
    if head.memory.hallucinator is not None:
        set_linear(head.memory.hallucinator, [[0.0, 0.0], [0.0, 0.0]], o)
    if head.memory.selector is not None:
        set_linear(head.memory.selector, [[0.0, 0.0], [0.0, 0.0]], [math.atanh(0.5)] * 2)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
    return head


def test_presets__are_the_paper_and_the_official_code() -> None:
    assert PRESETS == {"paper": PAPER, "official": OFFICIAL}
    assert (PAPER.reachability, PAPER.cosine_scale) == (1, 1)
    assert (PAPER.loss_weight, PAPER.margin, PAPER.loss_on) == (0.1, 5, "meta")
    assert (OFFICIAL.reachability, OFFICIAL.cosine_scale) == (10, 16)
    assert (OFFICIAL.loss_weight, OFFICIAL.repulsion, OFFICIAL.margin) == (0.01, 0.01, 10)
    assert OFFICIAL.loss_on == "direct"
    assert OLTRHead(2, 2).preset == OFFICIAL


def test_equation_1__coefficients_of_the_memory() -> None:
    def coefficients(preset: Preset) -> Tensor:
        memory = Memory(2, 2, preset, Ablations())
        assert memory.hallucinator is not None
        set_linear(memory.hallucinator, [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0])
        found: Tensor = memory(DIRECT, CENTROIDS)[1]
        return found

    torch.testing.assert_close(coefficients(PAPER), torch.tensor([[4.0, 4.0], [1.0, 2.0]]))
    share = 1 / (1 + math.e)
    expected = torch.tensor([[0.5, 0.5], [share, 1 - share]])
    torch.testing.assert_close(coefficients(OFFICIAL), expected)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_equation_2__meta_embedding(preset: Preset) -> None:
    meta, coefficients = head_by_hand(preset).memory(DIRECT, CENTROIDS)
    # The memory feature is (3, 5)/4; half of it is added. γ is 1 and 2.
    added = torch.tensor([[3.375, 4.625], [0.375, 2.625]])
    factor = preset.reachability / torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(meta, factor * added)
    torch.testing.assert_close(coefficients, torch.tensor([[0.25, 0.75]] * 2))


def test_equation_3__distance_to_the_nearest_centroid() -> None:
    torch.testing.assert_close(nearest_distance(DIRECT, CENTROIDS), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(reachability(DIRECT, CENTROIDS, 10.0), torch.tensor([[10.0], [5.0]]))


def test_equation_4__concept_selector() -> None:
    memory = Memory(2, 2, PAPER, Ablations(reachability=False))
    assert memory.hallucinator is not None
    assert memory.selector is not None
    # The memory feature is (1, 1), so that e is what is added to the direct features.
    set_linear(memory.hallucinator, [[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0])
    set_linear(memory.selector, [[0.5, 0.0], [0.0, 0.0]], [-1.5, math.atanh(0.25)])
    expected = torch.tensor([[0.0, 0.25], [math.tanh(-1.5), 0.25]])
    torch.testing.assert_close(memory(DIRECT, torch.eye(2))[0] - DIRECT, expected)


def test_equation_6__squashing_in_both_forms() -> None:
    # Lengths 5 and 2: 25/26 and 4/5 against 5/6 and 2/3, times the directions.
    quadratic = torch.tensor([[0.6 * 25 / 26, 0.8 * 25 / 26], [0.0, 0.8]])
    linear = torch.tensor([[0.6 * 5 / 6, 0.8 * 5 / 6], [0.0, 2 / 3]])
    torch.testing.assert_close(squash(DIRECT, "quadratic"), quadratic)
    torch.testing.assert_close(squash(DIRECT, "linear"), linear)


@pytest.mark.parametrize("form", ["quadratic", "linear"])
def test_equation_6__zero_squashes_to_zero_with_a_finite_gradient(form: str) -> None:
    zero = torch.zeros(1, 3, requires_grad=True)
    squashed = squash(zero, form)  # type: ignore[arg-type]
    torch.autograd.backward(squashed.sum())
    assert squashed.tolist() == [[0.0, 0.0, 0.0]]
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("form", ["quadratic", "linear"])
def test_equation_6__long_embeddings_in_half_precision_keep_their_direction(form: str) -> None:
    # Their squared lengths are beyond float16.
    squashed = squash(torch.tensor([[3000.0, 4000.0]], dtype=torch.float16), form)  # type: ignore[arg-type]
    assert squashed.tolist()[0] == pytest.approx([0.6, 0.8], abs=1e-3)


def test_equation_6__cosine_classifier_normalises_its_rows() -> None:
    classifier = CosineClassifier(2, 2, scale=16.0)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
    features = torch.tensor([[0.5, 0.0], [0.25, 0.5]])
    expected = torch.tensor([[0.0, 16 * 0.4], [16 * 0.5, 16 * (0.2 + 0.3)]])
    torch.testing.assert_close(classifier(features), expected)


def test_cosine_classifier__starts_uniform_within_one_by_root_d() -> None:
    weight = CosineClassifier(64, 200, scale=1.0).weight
    assert weight.abs().max() <= 1 / 8
    assert weight.abs().max() > 0.99 / 8
    assert weight.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_head__chains_equations_1_to_6(preset: Preset) -> None:
    output = head_by_hand(preset)(DIRECT[:1])
    # γ = 1; the meta-embedding is r · (3.375, 4.625), of length n.
    x, y = preset.reachability * 3.375, preset.reachability * 4.625
    n = math.hypot(x, y)
    length = n / (1 + n) if preset.name == "official" else n * n / (1 + n * n)
    x, y = x / n * length, y / n * length
    assert output.features.tolist()[0] == pytest.approx([x, y])
    logits = [preset.cosine_scale * y, preset.cosine_scale * (0.8 * x + 0.6 * y)]
    assert output.logits.tolist()[0] == pytest.approx(logits)


def test_equation_7__official_objective() -> None:
    head = head_by_hand(OFFICIAL)
    output = head(DIRECT)
    # Attraction: squared distances 1 and 4 to the own centroids. Repulsion: 25 and 18 to the
    # other ones, 43/4 on average: beyond the margin.
    expected = functional.cross_entropy(output.logits, LABELS) + 0.01 * (5 / 2 / 2)
    torch.testing.assert_close(OLTRObjective(head)(output, LABELS), expected)


def test_official_loss__repels_within_the_margin() -> None:
    # Labels exchanged: 25 and 18 are the own distances, 1 and 4 those to the others.
    value = official_loss(
        DIRECT, LABELS.flip(0), CENTROIDS, weight=0.01, margin=10.0, repulsion_weight=0.01
    )
    assert float(value) == pytest.approx(0.01 * (43 / 2 / 2 + 0.01 * (10 - 5 / 4)))


def test_equation_7__paper_objective() -> None:
    head = head_by_hand(PAPER)
    output = head(DIRECT)
    # Meta-embeddings (3.375, 4.625) and (0.1875, 1.3125), the latter with γ = 2.
    # The first one is beyond the margin: 0.53 - 5.73 + 5 < 0.
    second = math.hypot(0.1875, 1.3125) - math.hypot(2.8125, 3.6875) + 5
    large_margin = (0 + second) / 2
    expected = functional.cross_entropy(output.logits, LABELS) + 0.1 * large_margin
    torch.testing.assert_close(OLTRObjective(head)(output, LABELS), expected)


def test_equation_9__hand_computed_and_zero_beyond_the_margin() -> None:
    centroids = torch.tensor([[3.0, 5.0], [0.0, 0.0], [3.0, 7.0]])
    # Own 1, others 5 + 3: 1 - 8 + m.
    assert float(margin_loss(DIRECT[:1], LABELS[:1], centroids, 10.0)) == pytest.approx(3)
    assert float(margin_loss(DIRECT[:1], LABELS[:1], centroids, 5.0)) == 0


def changed(tensor: Tensor, reference: Tensor) -> bool:
    """Whether two tensors differ."""
    return not torch.allclose(tensor, reference)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_ablations__each_takes_its_part_out_of_equation_2(preset: Preset) -> None:
    memory = 0.25 * CENTROIDS[0]
    factor = preset.reachability / torch.tensor([[1.0], [2.0]])
    expected = {
        Ablations(memory=False): factor * DIRECT,
        Ablations(selector=False): factor * (DIRECT + memory),
        Ablations(reachability=False): DIRECT + 0.5 * memory,
        Ablations(memory=False, reachability=False): DIRECT,
    }
    full = head_by_hand(preset)(DIRECT).meta
    for ablations, meta in expected.items():
        output = head_by_hand(preset, ablations)(DIRECT)
        torch.testing.assert_close(output.meta, meta)
        assert (output.memory is None) == (not ablations.memory)
        assert changed(output.logits, head_by_hand(preset)(DIRECT).logits)
        assert changed(meta, full)


def test_paper_objective__refuses_the_output_of_a_head_without_memory() -> None:
    output = Output(logits=DIRECT, direct=DIRECT, features=DIRECT)
    with pytest.raises(InputError, match="meta-embeddings, and the model makes none"):
        OLTRObjective(OLTRHead(2, 2, PAPER))(output, LABELS)


def test_memory__without_parts_is_the_identity() -> None:
    bare = Memory(2, 2, OFFICIAL, Ablations(memory=False, selector=False, reachability=False))
    meta, coefficients = bare(DIRECT, CENTROIDS)
    assert torch.equal(meta, DIRECT)
    assert coefficients is None
    assert not list(bare.parameters())
