"""Reliability: may the score be taken at its word, and where does it stop."""
