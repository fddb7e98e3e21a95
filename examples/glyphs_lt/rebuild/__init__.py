"""Rebuild Glyphs-LT from fonts: scan, render, clean, families, homoglyphs, build, pack.

Letters for shapes: M rendered glyphs, N samples of the data set, C classes.
"""
