"""Losses of OLTR and its competitors: functions of features or logits, and objectives."""
