"""Fairness by arithmetic on counts: from a table of group x label x prediction to every measure."""
