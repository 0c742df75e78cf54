"""Which rows of an attribution may be relied on."""

import numpy as np

from audit.explain.attribution import Attribution


def test_a_row_with_any_value_that_is_not_finite_is_not_usable():
    values = np.array([[1.0, 2.0], [np.nan, 2.0], [1.0, np.inf], [0.0, 0.0]])
    item = Attribution(
        method="saliency",
        features=("a", "b"),
        rows=np.arange(4),
        values=values,
        unit="log-odds",
        targets=np.zeros(4, dtype=np.int64),
        fx=np.array([0.0, 0.0, 0.0, np.nan]),
    )
    assert item.usable().tolist() == [True, False, False, False]
