"""Servers that tests of images elsewhere ask."""

from tests.elsewhere import bucket, line

__all__ = ["bucket", "line"]
