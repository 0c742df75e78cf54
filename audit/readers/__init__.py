"""Readers of files of inputs and labels, found through the entry points `audit.readers`."""
