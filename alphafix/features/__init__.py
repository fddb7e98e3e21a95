"""Features on disk: the sharded store, its writer, and class means."""
