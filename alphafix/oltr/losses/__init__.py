"""Losses of OLTR's competitors, each a function of features or logits and labels."""
