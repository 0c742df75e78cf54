"""The checks that ship, by pillar; one file a question."""
