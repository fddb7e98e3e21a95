"""What `import alphafix` offers, beside the values: the stages as functions."""
