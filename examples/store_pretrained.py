r"""Put the best weights of a run into the library, in half precision, with an entry in its registry.

diffnmf train --reconstruction relative_to_start --sparsity 1 --output runs/mnist-k30
python examples/store_pretrained.py mnist-k30 runs/mnist-k30 \
    --command "diffnmf train --reconstruction relative_to_start --sparsity 1"  # in full, whatever the defaults become
python examples/store_pretrained.py faces-k30 runs/faces-k30 --command "..." --no-weights
"""

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.evaluation import score_generator
from diffnmf.evaluation.scoring import mean_scores
from diffnmf.factorization import merge
from diffnmf.metrics import summarize
from diffnmf.models import GANUNMF
from diffnmf.models.pretrained import FOLDER, REGISTRY, registry
from diffnmf.models.saved_model import save_weights
from diffnmf.runs import RunFolder
from diffnmf.runs.parts import RunData, load_run_data

LICENCES = {
    "digits": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    "fashion": "MIT (Zalando)",
    "faces": "AT&T Laboratories Cambridge, research use",
}
SHOWN = ("groups", "relative_error", "column_error", "hoyer_H", "part_overlap", "copying", "dead_components")
CHECKED = 8  # groups of the quick check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the pretrained model")
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--command", required=True, help="what trained the run")
    parser.add_argument("--no-weights", action="store_true", help="only the entry, where the images allow no more")
    parser.add_argument("--data-dir", help="where the data sets are")
    options = parser.parse_args()

    _, config = RunFolder.open(options.run)
    model = GANUNMF.load(options.run)
    halves = {name: tensor.to(torch.float16) for name, tensor in model.generator.state_dict().items()}
    model.generator.load_state_dict({name: tensor.to(torch.float32) for name, tensor in halves.items()})
    sha256 = None
    if not options.no_weights:
        file = FOLDER / f"{options.name}.safetensors"
        save_weights(halves, file)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    # All test groups, whatever the run has scored.
    shape: dict[str, Any] = {
        "dataset": config.data.dataset,
        "group_size": config.data.group_size,
        "order": config.data.order,
    }
    data = load_run_data(type(config.data)(**shape), seed=config.training.seed, data_dir=options.data_dir, device="cpu")
    entry = {
        "model": asdict(model.config),
        "data": shape,
        "data_licence": LICENCES[config.data.dataset],
        "command": options.command,
        "seed": config.training.seed,
        "metrics": _metrics(model, data),
        "sha256": sha256,
    }
    entries = {**registry(), options.name: json.loads(json.dumps(entry))}
    (FOLDER / REGISTRY).write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", encoding="utf-8")
    print(json.dumps(entry["metrics"], indent=2))


def _metrics(model: GANUNMF, data: RunData) -> dict[str, Any]:
    """Means over all test groups, of the model and of merging, and over the first few of them."""

    def merged(Y: Tensor) -> dict[str, Tensor]:
        return summarize(Y, *merge(Y, model.config.k))

    groups = data.test_groups
    scores = score_generator(model.generator, data.split.test, groups)
    first = score_generator(model.generator, data.split.test, groups[:CHECKED])
    rival = mean_scores(merged, data.split.test, groups)
    return {
        **{name: scores[name] for name in SHOWN},
        "merge": {name: rival[name] for name in SHOWN},
        "first_groups": {name: first[name] for name in ("groups", "relative_error", "hoyer_H")},
    }


if __name__ == "__main__":
    main()
