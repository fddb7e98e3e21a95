"""Long-tailed lists from balanced images: how many of each class, which ones, and their hashes."""
