"""The command line: one thin file a command. stdout is the result, stderr everything else."""
