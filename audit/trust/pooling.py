"""Means in which each row weighs as much as there is to explain in it. Numpy only.

In a row close to the baseline the answer hardly moves, whatever is taken away, and its explanation is close
to 0: which sign it has there hangs on a draw. As a share of the row's own range that is as large as any
other; of all rows together it is next to nothing.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def pooled(values: Doubles, sizes: Doubles) -> Doubles:
    """[n, ...] numbers whose plain mean is the mean of `values` weighted by `sizes`.

    Each number is that mean plus the row's own part in its error, so that their spread over n gives the
    standard error of a ratio of two sums (Cochran 1977, Sampling Techniques, chapter 6). Where all sizes are
    0 the rows weigh the same; no rows give no numbers.

    Args:
        values: [n, ...] one value a row, as a share of the row's size.
        sizes: [n] how much there is in each row, at least 0.
    """
    total = sizes.sum()
    if not total > 0:
        return values
    weights = (sizes / (total / len(sizes))).reshape(-1, *([1] * (values.ndim - 1)))
    centre = (weights * values).mean(axis=0)
    found: Doubles = centre + weights * (values - centre)
    return found
