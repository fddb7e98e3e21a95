"""The options of each stage: one frozen model for the API, the flags and the provenance."""
