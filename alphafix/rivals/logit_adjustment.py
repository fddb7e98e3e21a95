"""Logit adjustment by the class prior, after training."""

from __future__ import annotations

import numpy as np

from alphafix.rivals.material import Fitted, Material, linear

TAUS = np.linspace(0, 2, 41)


def fit(material: Material) -> Fitted:
    """z'_c = z_c - tau log pi_c with pi the training shares; tau on validation.

    Menon et al. 2021, section 4.2 (post-hoc logit adjustment).
    """
    plain = material.val_logits(material.head.logits)
    prior = np.log(material.prior)
    tau, _ = material.best(TAUS, lambda tau: (plain - tau * prior).argmax(axis=1).astype(np.int64))
    scale = material.head.scale
    return linear(
        "logit-adjustment",
        material,
        material.head.weight * scale,
        material.head.bias_or_zeros * scale - tau * prior,
        settings={"tau": round(float(tau), 3)},
    )
