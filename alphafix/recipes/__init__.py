"""Recipes: any chain of stages in one file, and the figures that a paper says come out."""
