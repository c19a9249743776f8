"""What differs between the CPU and an accelerator."""

import torch


def looking_is_free(device: torch.device) -> bool:
    """Whether Python may look at a result, to pick out columns or to leave something out, without a wait.

    On an accelerator that waits until all the work queued there is done, and the accelerator then waits for Python.
    """
    return device.type == "cpu"
