"""Certificates: what provably cannot change a decision, by bounds or by randomised smoothing."""
