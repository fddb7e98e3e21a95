"""The part of a torch file that the model's weights are in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

# Where training scripts keep weights beside other things. Averaged weights come first, as in
# timm's load_state_dict: they are the ones that were evaluated.
SECTIONS = ("state_dict_ema", "model_ema", "state_dict", "model")

# What wrappers (DataParallel, torch.compile) put before every name.
WRAPPERS = ("module.", "_orig_mod.")


def find_section(data: Mapping[Any, Any], *, wanted: str = "") -> str:
    """Name of the section to use, or "" for a file that is a state dict itself."""
    there = [name for name in SECTIONS if isinstance(data.get(name), Mapping)]
    if wanted in there:
        return wanted
    if len(there) > 1:
        logger.warning("the file holds %s; %s is used", " and ".join(there), there[0])
    return there[0] if there else ""


def section_of(name: str) -> str:
    """The section that a stored name begins with, or ""."""
    first = name.partition(".")[0]
    return first if first in SECTIONS else ""


def without_wrapper(names: list[str]) -> dict[str, str]:
    """Map each name to the one that the bare model has: without a prefix that all share."""
    found = {name: name for name in names}
    for wrapper in WRAPPERS:
        if found and all(name.startswith(wrapper) for name in found.values()):
            found = {name: short[len(wrapper) :] for name, short in found.items()}
    return found
