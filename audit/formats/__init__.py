"""Formats: a record as files that other programs read. One file a format."""
