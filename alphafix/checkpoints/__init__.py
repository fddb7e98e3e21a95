"""Model files: opening them, finding the head, changing its rows and nothing else."""

from alphafix.checkpoints.formats.opening import load_state_dict, open_checkpoint
from alphafix.checkpoints.head.finding import find_head
from alphafix.checkpoints.sklearn_models import head_of, with_correction

__all__ = ["find_head", "head_of", "load_state_dict", "open_checkpoint", "with_correction"]
