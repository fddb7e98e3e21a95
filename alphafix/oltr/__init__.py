"""Open long-tailed recognition: the OLTR model, its training, and its competitors."""
