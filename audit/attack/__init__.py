"""Attacks: what they may change, how they search, and the judgement of what they found."""
