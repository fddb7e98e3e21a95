"""Files that others made: limits before parsing, schemas for what was parsed, one error."""
