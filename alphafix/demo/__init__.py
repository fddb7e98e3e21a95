"""The demonstration: Glyphs-LT, a long-tailed image data set, and a small base model for it."""
