"""What a correction gains and what it costs: figures, intervals, paired tests and gates."""
