"""Images of any source as numbered samples, decoded and batched by worker processes."""
