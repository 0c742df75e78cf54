"""Tests written by hand beside those of audit.toml: `pytest test_loans.py audit.toml`."""


def test_the_north_is_attacked_no_more_easily(audit_check):
    finding = audit_check("fairness.robust_accuracy", epsilon=[0.05], steps=5)
    north = finding.measure("robust_accuracy", {"region": "north"}, epsilon=0.05)
    assert north.low > 0.7  # the whole interval, not the point


def test_every_applicant_has_a_region(audit_data):
    assert set(audit_data.sensitive["region"].groups) == {"north", "south"}


def test_the_model_gives_gradients(audit_model):
    assert "gradients" in audit_model.capabilities
