"""Products: what several checks need, computed once per run."""
