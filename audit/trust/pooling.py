"""Means in which each row weighs as much as there is to explain in it. Numpy only.

In a row close to the baseline the answer hardly moves, whatever is taken away, and its explanation is close
to 0: which sign it has there hangs on a draw. As a share of the row's own range that is as large as any
other; of all rows together it is next to nothing. The other way round, one row whose answer moves a thousand
times as far must not speak for all: no row weighs more than an eighth.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
MOST = 1 / 8
"""Largest share of all weight that one row may have; twice an even share where there are few rows."""
_HALF = 0.5


def pooled(values: Doubles, sizes: Doubles) -> Doubles:
    """[n, ...] numbers whose plain mean is the mean of `values` weighted by `shares` of `sizes`.

    Each number is that mean plus what the row does to it, so that their spread over n gives the standard
    error by the jackknife: the mean without a row, for each row in turn (Tukey 1958; Cochran 1977, Sampling
    Techniques, chapter 6). Errors taken from the mean itself would miss how far a heavy row has pulled it.
    Where all sizes are 0 the rows weigh the same; no rows give no numbers.

    Args:
        values: [n, ...] one value a row, as a share of the row's size.
        sizes: [n] how much there is in each row, at least 0.
    """
    count = len(sizes)
    if count < 2 or not sizes.sum() > 0:  # noqa: PLR2004 - one row weighs all
        return values
    share = shares(sizes).reshape(-1, *([1] * (values.ndim - 1)))
    centre = (share * values).sum(axis=0)
    pull = (count - 1) * share / (1 - share) * (values - centre)
    found: Doubles = centre + pull - pull.mean(axis=0)
    return found


def shares(sizes: Doubles) -> Doubles:
    """[n] what each row weighs, summing to 1: as its size, but at most `MOST`, or 2 / n where that is more.

    What heavy rows have too much goes to the others by their sizes, evenly where these are all 0.

    Args:
        sizes: [n] at least 0, not all 0, n at least 2.
    """
    most = min(_HALF, max(2 / len(sizes), MOST))
    found: Doubles = sizes / sizes.sum()
    heavy = np.zeros(len(sizes), dtype=bool)
    while (found > most * (1 + 1e-9)).any():
        heavy |= found > most * (1 + 1e-9)
        rest = np.where(heavy, 0.0, sizes)
        rest = rest if rest.any() else (~heavy).astype(np.float64)
        found = np.where(heavy, most, (1 - most * heavy.sum()) * rest / rest.sum())
    return found
