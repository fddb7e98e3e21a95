"""Backbones: from a specification to a module that gives features and logits, and its head."""
