"""What a run sets for itself is put back when it is over."""

import torch

from diffnmf.training.randomness import seeded


def test_switches_are_put_back():
    """Of somebody who is only warned of an algorithm that is not deterministic, and goes on."""
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        for deterministic in (False, True):
            with seeded(0, deterministic=deterministic):
                assert torch.is_deterministic_algorithms_warn_only_enabled() is not deterministic
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
