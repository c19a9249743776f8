"""The engine below the trainer: accelerate, which knows devices, processes and mixed precision."""

import gc
import importlib
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffnmf.checks import check_name

if TYPE_CHECKING:
    from accelerate import Accelerator

# What a configuration calls them -> what accelerate calls them.
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}

# How long a process waits for the others before it gives up: the main one scores while they wait, beside rivals that
# iterate. NCCL would give up after ten minutes, gloo after thirty.
PATIENCE = timedelta(hours=6)


def make_accelerator(device: torch.device | str = "cpu", precision: str = "float32") -> "Accelerator":
    """The engine of this process: alone, or one of those that ``torchrun`` or ``accelerate launch`` started.

    Arguments:
        device: "cpu", "cuda", or "cuda:N"; among several processes each takes the GPU of its own number.
        precision: a name of ``PRECISIONS``, of the U-Net and the critic; NNLS and the losses stay in float32 or better.

    Raises:
        ValueError: the precision is unknown, or the device has none of it.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    check_name("precision", precision, PRECISIONS)
    device = torch.device(device)
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision: expected float32 or bfloat16 on the CPU; got 'float16' (use --precision bfloat16)")
    _forget_other_settings(device, PRECISIONS[precision])
    if device.index is not None:
        torch.cuda.set_device(device)
    if torch.distributed.is_available():
        # DistributedDataParallel imports it anyway, but after accelerate has made the process group, and then default
        # arguments in it keep the group, and the threads of gloo, for ever: see leave_processes.
        importlib.import_module("torch.distributed.nn")
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=PRECISIONS[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def is_of_a_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process has ended: torch has classes for that with NCCL, but not with gloo."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def leave_processes() -> None:
    """End the threads of gloo; to be called once no more is to be trained, before the interpreter ends.

    A thread that still lets go of a Python object while the interpreter ends aborts the process (pytorch#190489), and
    torchrun then kills the others, one of which may still be scoring.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        gc.collect()  # models in cycles hold the group
        distributed.destroy_process_group()


def _forget_other_settings(device: torch.device, mixed_precision: str) -> None:
    """accelerate keeps one state a process; a program that trains on after another needs it anew."""
    from accelerate.state import AcceleratorState, PartialState

    if PartialState._shared_state == {} or PartialState().num_processes > 1:
        return
    current = AcceleratorState._shared_state.get("_mixed_precision", mixed_precision)
    if PartialState().device != device or current != mixed_precision:
        AcceleratorState._reset_state(reset_partial_state=True)


class Learner:
    """A model that learns, with its optimiser, which is Adam; called as the model is.

    Arguments:
        model: on the device of the engine.
        accelerator: the engine.
        learning_rate: a step.
        betas: two numbers in [0, 1).
    """

    def __init__(
        self, model: nn.Module, accelerator: "Accelerator", learning_rate: float, betas: tuple[float, float]
    ) -> None:
        self._engine = accelerator
        # Fused is four times as fast on the CPU; it would want to do itself what the scaler of float16 does.
        fused = accelerator.scaler is None
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=betas, fused=fused)
        self._shell, self.optimizer = accelerator.prepare(Shell(model), optimizer)
        self.alone: nn.Module = accelerator.unwrap_model(self._shell)  # without the gradients of other processes

    def __call__(self, *inputs: Any) -> Any:
        """What the model returns."""
        return self._shell(*inputs)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step, with the last of its batches."""
        return nullcontext() if last else self._engine.no_sync(self._shell)

    def backward(self, loss: Tensor, share: float) -> None:
        """Add a share of the gradients of a loss to those of the step, whose mean the engine takes over processes."""
        self._engine.backward(loss * (share * self._engine.num_processes))

    def step(self) -> Tensor:
        """Step on the gradients, and return this process's share of their norm."""
        self._engine.unscale_gradients(self.optimizer)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self._engine.scaler is not None:  # a float16 overflow is no accident: that step is left out
            norm = torch.where(norm.isfinite(), norm, 0.0)
        return norm / self._engine.num_processes


class Shell(nn.Module):
    """A module around a model, for the engine to wrap and patch: the model itself stays as its owner knows it.

    Scores and saved weights are then those of the plain model in float32, whatever the precision of the training.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        """What the model returns."""
        return self.model(*inputs)
