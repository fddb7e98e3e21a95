"""The page of `alphafix report` on Emoji-LT, by the commands that a user types.

    python examples/evidence/page.py [--data evidence-data]
    python -m examples.docs.screens evidence-data/emoji-page/run/report/index.html

The model is the linear head of `emoji.py`; of the emoji that it was not trained on, 40% of each
class are validation and the others test. One call of `alphafix fix`, then `compare` and `report`
with the pictures themselves.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from arguments import add_data, parser_of, run_script
from emoji import EMOJI
from lite0 import NAME
from oltr_pictures import divide
from stored import Recipe

METHODS = "few-bias,logit-adjustment,mean-directions,lda"


def alphafix(*arguments: str | Path) -> None:
    """One command; its output goes where a user sees it."""
    command = [sys.executable, "-m", "alphafix", *map(str, arguments)]
    print("$ alphafix", *arguments, file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


def make(recipe: Recipe, data: Path) -> Path:
    """Correct the model with the linear head, compare, and write the page; its file.

    Args:
        recipe: Whose pictures and model.
        data: Where they are, or are made.
    """
    folder = data / f"{recipe.name}-page"
    recipe.stored(data)
    pictures, run = folder / "pictures", folder / "run"
    divide(recipe, pictures, data, held=(), side=None)
    shutil.copyfile(data / recipe.name / "linear.safetensors", folder / "model.safetensors")
    size = (f"extract.image_size={recipe.linear_size}", "extract.crop_pct=1")
    settings = [word for one in size for word in ("--set", one)]
    model = ("--backbone", f"timm:{NAME}", "--data", pictures)
    alphafix("fix", folder / "model.safetensors", *model, *settings, "--run", run)
    alphafix("compare", "--run", run, "--methods", METHODS, "--rho", "0.5")
    alphafix("report", "--run", run, "--overwrite")
    return run / "report" / "index.html"


def main() -> None:
    """Make it and say where it is."""
    parser = parser_of(__doc__)
    add_data(parser)
    print(make(EMOJI, parser.parse_args().data))


if __name__ == "__main__":
    run_script(main)
