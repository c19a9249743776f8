"""Evaluation mode for as long as something needs it, in any number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from torch import nn

_lock = Lock()
_users: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()  # how many, and whether it was training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model.eval()`` inside; the mode it was in comes back when the last thread inside leaves."""
    with _lock:
        count, was_training = _users.get(model, (0, model.training))
        _users[model] = count + 1, was_training
        if count == 0:
            model.eval()
    try:
        yield
    finally:
        with _lock:
            count, was_training = _users.pop(model)
            if count > 1:
                _users[model] = count - 1, was_training
            else:
                model.train(was_training)
