"""One module a command: read the run directory, call the library, write the result."""
