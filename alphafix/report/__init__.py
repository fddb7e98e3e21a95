"""Figures, and the page that shows them: everything a user needs to decide."""
