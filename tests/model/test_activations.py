"""Activations against their definitions in other libraries."""

import numpy as np
import torch
from scipy.stats import norm

from s4edge.model.activations import activate


def test_laplace_is_a_gaussian_distribution_function() -> None:
    x = np.linspace(-3, 3, 101)
    # Mega's (Ma et al. 2022): mean sqrt(1/2), deviation sqrt(1 / (4 pi)).
    expected = norm.cdf(x, np.sqrt(0.5), np.sqrt(0.25 / np.pi))
    np.testing.assert_allclose(activate("laplace", torch.from_numpy(x)), expected, atol=1e-6)


def test_squared_relu_and_its_gate() -> None:
    x = torch.tensor([-1.0, 0.5, 3.0, -2.0])
    assert activate("sqrelu", x).tolist() == [0, 0.25, 9, 0]
    assert activate("glu-sqrelu", x).tolist() == [-9, 0]
