"""Sub-designs: who belongs where, and a standard error that means what it says."""

import numpy as np
import pytest
import torch

from audit.explain.subdesigns import dealt, for_sums, group_count, group_sizes, standard_error


@pytest.mark.parametrize(
    ("samples", "groups"), [(1, 1), (2, 1), (3, 1), (4, 2), (15, 7), (16, 8), (17, 8), (1000, 8)]
)
def test_a_group_has_two_samples_or_there_is_one_group(samples, groups):
    assert group_count(samples) == groups
    sizes = group_sizes(samples, groups, torch.device("cpu"))
    assert sizes.sum() == samples
    assert sizes.max() - sizes.min() <= 1
    assert torch.equal(dealt(torch.arange(samples), groups).sum(dim=1), sizes)


def test_a_sample_belongs_to_one_group_whatever_the_block_is():
    whole = dealt(torch.arange(20), 8)
    assert torch.equal(whole.sum(dim=0), torch.ones(20, dtype=torch.float64))
    assert torch.equal(whole[:, 5:9], dealt(torch.arange(5, 9), 8))


def test_the_standard_error_of_a_mean_of_groups():
    estimates = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    expected = np.std([1, 2, 3, 6], ddof=1) / 2
    assert standard_error(estimates).item() == pytest.approx(expected)
    assert standard_error(estimates[:1]).isnan().all()


def test_sums_are_kept_in_double():
    assert for_sums(torch.zeros(2)).dtype == torch.float64
