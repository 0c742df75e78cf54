"""Checks of plain predictive performance."""
