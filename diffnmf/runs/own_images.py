"""A user's own images, factorised by a trained model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag
from diffnmf.data import group_matrix, load_images
from diffnmf.figures.montages import save_decomposition
from diffnmf.files import check_output, explained_errors, replacing_together
from diffnmf.lock import free_folder
from diffnmf.metrics import column_error, relative_error
from diffnmf.metrics.names import with_both_names
from diffnmf.runs.pictures import model_name
from diffnmf.runs.trained_run import check_image_shape, open_model

FACTORS = "factors.npz"
PICTURES = 100  # one a group; more than anyone looks at would only take time


@dataclass(frozen=True, eq=False)
class GroupFactors:
    """Groups of images and their factorisation.

    Attributes:
        H: (G, n, k), float32.
        W: (G, k, m), float32.
        Y_hat: (G, n, m), float32, the reconstructions HW.
        indices: (G, m), int64, which image is in each column, counted in the order of the files.
        column_error: (G,).
        relative_error: (G,).

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from diffnmf.runs import factorize_images
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mine.npy", np.random.rand(50, 8, 8))
        ...     found = factorize_images("digits-k16", f"{folder}/mine.npy", f"{folder}/factors")
        >>> np.allclose(found.Y_hat[0], found.H[0] @ found.W[0], atol=1e-5)
        True
    """

    H: np.ndarray
    W: np.ndarray
    Y_hat: np.ndarray
    indices: np.ndarray
    column_error: np.ndarray
    relative_error: np.ndarray


def factorize_images(
    run: str | Path,
    images: str | Path,
    output: str | Path,
    *,
    weights: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    resize: bool = False,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda message: None,
) -> GroupFactors:
    """Factorise one's own images with the model of a run; leaves factors.npz and a picture of every group.

    The images are taken in the order of their files, m at a time. The last group is made of the last m images, so that
    some are in two groups where their number is no multiple of m.

    Arguments:
        run: a run folder, one that ``GANUNMF.save`` wrote, or the name of a pretrained model.
        images: a folder of image files, or an .npy or .npz file of images (N, h, w), N ≥ m.
        output: a folder; made where it does not exist.
        weights: "best", "generator" or "ema"; by default the first of these that is there.
        shuffle: mix the images first: a model that was trained on groups of many classes does badly on groups of one.
        seed: of the mixing, an int ≥ 0.
        resize: scale the images to the size of the run; without it they must have that size.
        device: where to compute.
        overwrite: replace the factors and the pictures of an earlier call.
        announce: told what is about to be done.

    Raises:
        RunFolderError: there is no model, or ``output`` holds factors already or cannot be written.
        ValueError: the images cannot be read, are of another size, or too few, or ``seed`` is negative.
        TypeError: an argument is of the wrong kind.

    Returns:
        What is in factors.npz.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from diffnmf.runs import factorize_images
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mine.npy", np.random.rand(40, 8, 8))
        ...     factors = factorize_images("digits-k16", f"{folder}/mine.npy", f"{folder}/factors")
        ...     sorted(path.name for path in Path(f"{folder}/factors").iterdir())
        ['factors.npz', 'group-0000.png']
        >>> factors.H.shape, factors.W.shape
        ((1, 64, 16), (1, 16, 40))
    """
    shuffle, seed = check_flag("shuffle", shuffle), check_count("seed", seed)
    output = Path(output)
    check_output(output)
    earlier = {file.name for file in output.glob("group-[0-9][0-9][0-9][0-9].png")}
    with free_folder(output, [FACTORS, *sorted(earlier)], overwrite):
        model = open_model(run, weights, device)
        image_set = load_images(images, resize=model.config.image_shape if resize else None)
        check_image_shape(model, image_set.image_shape, str(images))
        indices = _groups(len(image_set), model.config.m, seed if shuffle else None)  # (G, m)
        Y = group_matrix(image_set, indices)  # (G, n, m)
        announce(f"{images}: {len(image_set)} images in {len(Y)} groups of {model.config.m}")
        result = model.factorize(Y)
        H, W, Y_hat = (part.float().cpu() for part in result)  # NumPy and pictures know no bfloat16
        scores = (score(Y, Y_hat).numpy() for score in (column_error, relative_error))
        factors = GroupFactors(H.numpy(), W.numpy(), Y_hat.numpy(), indices.numpy(), *scores)
        pictures = [f"group-{group:04d}.png" for group in range(min(len(Y), PICTURES))]
        with explained_errors(output), replacing_together(output) as unfinished:
            np.savez_compressed(unfinished / FACTORS, **with_both_names(vars(factors)))
            for group, name in enumerate(pictures):
                title = f"Group {group} of {image_set.name}, by {model_name(model)}"
                save_decomposition(unfinished / name, Y[group], H[group], W[group], image_set.image_shape, title=title)
        for name in earlier.difference(pictures):
            (output / name).unlink(missing_ok=True)
    return factors


def _groups(count: int, m: int, seed: int | None) -> Tensor:
    """(G, m) indices: m images at a time, the last group from the end."""
    if count < m:
        raise ValueError(f"images: expected at least {m}, as many as in a group of the model; got {count} (add images)")
    order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    starts = np.minimum(np.arange(0, count, m), count - m)
    return torch.from_numpy(order[starts[:, None] + np.arange(m)])
