"""Proof: whether a record says what follows from it. Shares no code with what measured and judged it."""
