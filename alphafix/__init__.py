"""alphafix: post-hoc correction of the rare classes of a trained classifier."""
