import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import MLP, seeded

from audit.loaders.batched import Batched


class Picky(torch.nn.Module):
    """Takes batches of some sizes only; doubles its input."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, rows):
        if not self.low <= len(rows) <= self.high:
            raise RuntimeError(f"a batch of {len(rows)}")
        return rows * 2


@given(low=st.integers(1, 6), more=st.integers(0, 6), count=st.integers(1, 30))
def test_any_number_of_rows_goes_through_any_limits(low, more, count):
    rows = torch.arange(count * 2.0).reshape(count, 2)
    assert torch.equal(Batched(Picky(low, low + more), low, low + more)(rows), rows * 2)


def test_the_network_alone_would_refuse():
    with pytest.raises(RuntimeError, match="a batch of 3"):
        Picky(4, 4)(torch.zeros(3, 2))


def test_gradients_are_those_of_the_network():
    network, rows = seeded(MLP), torch.randn(7, 5)
    expected = rows.clone().requires_grad_()
    network(expected)[:, 0].sum().backward()
    seen = rows.clone().requires_grad_()
    Batched(network, 4, 4)(seen)[:, 0].sum().backward()
    assert torch.allclose(seen.grad, expected.grad, atol=1e-6)


def test_it_is_not_in_training_mode():
    assert not any(part.training for part in Batched(seeded(MLP), 1, 1).modules())
