"""Checks of robustness against attacks."""
