"""The examples run, and do what they say."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffnmf import NNLSLayer
from diffnmf.data import load_dataset
from diffnmf.models import W_SOLVERS

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGITS = ["--dataset", "digits", "--epochs", "1", "--limit-groups", "2", "--k", "5", "--output", "run"]


pytestmark = pytest.mark.usefixtures("one_thread", "without_pictures")


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def run_example(name, *options, folder):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def run_beside_torch(processes, name, *options, folder):
    """The same where torch has been imported: a program that only answers is seconds faster."""
    path = str(EXAMPLES / f"{name}.py")
    program = (
        f"import runpy, sys; sys.path[0], sys.argv[0] = {str(EXAMPLES)!r}, {path!r};"
        f"runpy.run_path({path!r}, run_name='__main__')"
    )
    return processes.run(program, options, folder)


def assert_trained(stdout, folder):
    assert stdout.splitlines()[-1] == "run"
    assert "GAN-UNET (test)" in stdout
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert 0 < metrics["test"]["relative_error"] < 2


def test_the_layer_in_a_model_of_ones_own():
    example = load_example("nnls_layer")
    losses = example.main()
    assert losses[-1] < 0.5 * losses[0]
    assert len(example.main(steps=3)) == 3


@pytest.mark.parametrize("name", ["nmf_parts", "nnls_layer"])
def test_an_example_without_options_says_what_it_is_when_asked(name, tmp_path, fresh_processes):
    done = run_beside_torch(fresh_processes, name, "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deep_nmf", ["--dataset", "nonsense"], "invalid choice: 'nonsense'"),
        ("unmixing", ["--k", "9"], "k: expected 2 to 7 endmembers, a colour for each; got 9"),
        ("unmixing", ["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N; got 'gpu'"),
        ("sparse_coding", ["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N; got 'gpu'"),
        ("attention_factorization", ["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N; got 'gpu'"),
    ],
)
def test_what_an_example_does_not_take_is_told_in_a_line(name, options, message, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    with pytest.raises(SystemExit) as stopped:
        load_example(name).main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("w_solver", W_SOLVERS)
def test_training_with_every_w_solver(w_solver, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", "--w-solver", w_solver, *DIGITS])
    load_example("train_mnist").main()
    assert_trained(capsys.readouterr().out, tmp_path)
    assert f"w_solver: {w_solver}\n" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_training_in_a_process_of_its_own(tmp_path):
    """As a user runs it: the standard error says where the run is, the device, epochs, and what follows; no more."""
    result = run_example("train_mnist", *DIGITS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_trained(result.stdout, tmp_path)
    told = [line.split()[0] for line in result.stderr.splitlines()]
    assert told == ["run", "computing", "epoch", "scoring", "scoring", "drawing"]


@pytest.mark.slow
def test_training_with_cvxpylayer_in_a_process_of_its_own(tmp_path):
    result = run_example("train_mnist", "--w-solver", "cvxpylayer", *DIGITS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_trained(result.stdout, tmp_path)
    assert "Warning" not in result.stderr


def test_training_refuses_unknown_w_solvers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", "--w-solver", "nope"])
    with pytest.raises(SystemExit) as caught:
        load_example("train_mnist").main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in (*W_SOLVERS, "nope"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("train_mnist", DIGITS, "Error: output: run already holds a run (config.yaml); continue it with"),
        ("compare_w_solvers", ["--k", "0"], "Error: k: expected an int ≥ 1; got 0"),
    ],
)
def test_what_the_library_refuses_is_told_in_a_line(name, options, message, tmp_path, fresh_processes):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    result = run_beside_torch(fresh_processes, name, *options, folder=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_training_over_a_run(tmp_path, monkeypatch, capsys):
    """What the message about a run that is there says, the example can do."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", *DIGITS, "--overwrite"])
    load_example("train_mnist").main()
    assert_trained(capsys.readouterr().out, tmp_path)


def test_profile_adds_up(monkeypatch, capsys):
    options = ["--dataset", "digits", "--k", "4", "--width", "8", "--steps", "3", "--w-solvers", "unrolled", "fc"]
    monkeypatch.setattr(sys, "argv", ["profile_training.py", *options])
    load_example("profile_training").main()
    title, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("digits, k = 4, 34 groups an epoch, 4 in a step")
    assert "W-solver" in header
    assert [row.split("`")[1] for row in rows] == ["unrolled", "fc"]
    for row in rows:
        *parts, seconds, _ = (cell.split("(")[0] for cell in row.strip("| ").split("|")[1:])
        assert sum(map(float, parts)) == pytest.approx(float(seconds), abs=0.3)  # each is rounded
        shares = [int(share) for share in re.findall(r"\((\d+) %\)", row)]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_the_benchmark_of_starts(tmp_path, monkeypatch, capsys):
    """On two small matrices: every start has a row, and both estimators end at about the same error."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("benchmark_starts")
    data = load_example("nmf_data")
    small = [data.Case("planted", lambda: data.planted(30, 20, 4, noise=0.1, batch=2), 4)]
    monkeypatch.setattr(example, "cases", lambda data_dir: small)
    for part in ("starts", "defaults"):
        monkeypatch.setattr(sys, "argv", ["benchmark_starts.py", "--part", part, "--output", str(tmp_path)])
        example.main()
    text = capsys.readouterr().out
    assert all(f"| {start} |" in text for start in example.STARTS)
    with (tmp_path / "starts_starts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(example.STARTS)
    assert all(float(row["200"]) < float(row["0"]) for row in rows)
    with (tmp_path / "starts_defaults.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert abs(float(row["error"]) / float(row["rival_error"]) - 1) < 0.02


def run_with_table(name, *options, folder, monkeypatch):
    """Run an example in this process; returns the rows of the table it leaves in its folder, each a dictionary."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, "--output", str(folder)])
    load_example(name).main()
    lines = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_unmixing(tmp_path, monkeypatch, capsys):
    """Weights beat none; the simplex beats division where spectra are given, a softmax where they are learned."""
    options = ["--side", "16", "--bands", "40", "--k", "3", "--steps", "40", "--longer", "2"]
    rows = run_with_table("unmixing", *options, folder=tmp_path, monkeypatch=monkeypatch)
    given = [float(row["abundance error, H given"]) for row in rows]
    simplex, unweighted, divided, *softmax = given
    assert simplex < divided
    assert simplex < 0.5 * unweighted
    assert simplex < 0.5 * min(softmax)
    assert float(rows[0]["abundance error"]) < 0.5 * float(rows[3]["abundance error"])  # after as many steps
    assert (tmp_path / "unmixing.png").stat().st_size > 20_000
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path)


def test_unmixed_abundances_of_a_scene_without_noise():
    """With its endmembers the abundances come back, and the spectra are found in whatever order they are."""
    example = load_example("unmixing")
    scene = example.make_scene(side=16, bands=40, k=3, pure=0.1, seed=0)
    model = example.Unmixing(scene.endmembers[:, [2, 0, 1]], example.NNLSLayer(rows=True, total=1.0), 256)
    abundances = model.abundances(model.endmembers, scene.abundances @ scene.endmembers.T).detach()
    order, angle = example.matched(model.endmembers.detach(), scene.endmembers)
    assert order.tolist() == [1, 2, 0]
    assert angle < 0.1
    assert (abundances.sum(dim=1) - 1).abs().max() < 1e-5
    assert (abundances[:, order] - scene.abundances).abs().max() < 1e-3


def test_sparse_coding(tmp_path, monkeypatch):
    """At each l1 the exact codes have the lower objective; both encoders are the faster ones."""
    options = ["--k", "20", "--l1", "0.1", "0.5", "--epochs", "4"]
    rows = run_with_table("sparse_coding", *options, folder=tmp_path, monkeypatch=monkeypatch)
    assert [row["l1"] for row in rows] == ["0.100"] * 3 + ["0.500"] * 3
    for exact, *encoders in (rows[:3], rows[3:]):
        for encoder in encoders:
            assert float(exact["objective"]) < float(encoder["objective"])
            assert float(exact["relative error"]) < float(encoder["relative error"])
        assert float(exact["accuracy"]) > 0.85
    assert float(rows[3]["zeros of the codes"]) > float(rows[0]["zeros of the codes"])
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("sparsity.png", "dictionaries.png"))


def test_attention_factorization(tmp_path, monkeypatch):
    """On the same features the exact factors are nearer, whichever of the two the model was trained with."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    options = ["--steps", "4", "--seeds", "1"]
    rows = run_with_table("attention_factorization", *options, folder=tmp_path, monkeypatch=monkeypatch)
    errors = {row["block"]: [row[name].split()[0] for name in ("relative error", "other method")] for row in rows}
    assert errors["none"] == errors["convolutions"] == errors["factorizer: convolutions"] == ["–", "–"]
    for block in ("", "factorizer: "):
        updated, exact = map(float, errors[f"{block}multiplicative"])
        assert exact < updated
        exact, updated = map(float, errors[f"{block}exact"])
        assert exact < updated
    assert all(float(row["accuracy"].split()[0]) > 0.3 for row in rows)
    assert (tmp_path / "segmentations.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["Multiplicative", "Alternating", "Exact"])
def test_the_factorizations_of_the_block(name):
    """A matrix of low rank comes back, and the gradient reaches it; six updates come less near, and not by chance."""
    example = load_example("attention_blocks")
    torch.manual_seed(0)
    X = (torch.rand(4, 12, 2) @ torch.rand(4, 2, 30)).requires_grad_()
    Y = getattr(example, name)()(X, torch.rand(4, 12, 3))
    error = (torch.linalg.vector_norm(Y - X) / torch.linalg.vector_norm(X)).item()
    assert error < {"Multiplicative": 0.25, "Alternating": 0.1, "Exact": 0.05}[name]
    (Y**2).sum().backward()
    assert X.grad.isfinite().all()
    assert (X.grad != 0).any()


def test_hals_of_rank_one_is_exact_nnls():
    example = load_example("attention_blocks")
    H, X = torch.rand(3, 8, 1, dtype=torch.float64), torch.rand(3, 8, 5, dtype=torch.float64)
    W = example.Alternating().half_step(H, X, torch.zeros(3, 1, 5, dtype=torch.float64))
    torch.testing.assert_close(W, NNLSLayer()(H, X), rtol=1e-5, atol=0)


def test_windows_and_heads_of_a_factorizer_come_back_as_they_were():
    example = load_example("attention_blocks")
    layer = example.FactorizerLayer(4, 2, None, heads=2, window=3)
    torch.nn.init.dirac_(layer.into.weight)
    torch.nn.init.zeros_(layer.into.bias)
    layer.norms[0] = torch.nn.Identity()
    features = torch.rand(5, 4, 6, 9)
    windows = layer.matrix(features)
    assert windows.shape == (5, 2, 2, 3, 2, 9)
    assert torch.equal(windows[1, 1, 0, 2], features[1, 2:, :3, 6:].flatten(1))
    assert torch.equal(layer.image(windows), features)


def test_the_benchmark_of_incomplete_data(tmp_path, monkeypatch, capsys):
    """On digits: leaving out fits what is visible best, and predicts what is hidden better than zeros do."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("benchmark_missing")
    monkeypatch.setattr(example, "mnist_or_digits", lambda data_dir: load_dataset("digits").train)
    rows = {row.way: row for row in example.main(count=300, k=6, output=tmp_path / "missing.csv")}
    ours, whole = rows["diffnmf, missing='ignore', hals"], rows["diffnmf, the full fit, which has seen them"]
    assert rows["diffnmf, missing='unstored', hals"].visible_error < 1.02 * ours.visible_error
    for missing in ("ignore", "unstored"):
        in_batches = rows[f"diffnmf, missing='{missing}', in batches"]
        assert in_batches.visible_error < 1.02 * ours.visible_error
        assert in_batches.hidden_error < 1.05 * ours.hidden_error
    filled = [row for way, row in rows.items() if "zeros" in way or "means" in way]
    assert len(filled) == 4
    assert all(ours.visible_error < row.visible_error for row in filled)
    assert all(ours.hidden_error < row.hidden_error for way, row in rows.items() if "zeros" in way)
    assert whole.hidden_error < ours.hidden_error
    assert "% hidden" in capsys.readouterr().out


def test_the_benchmark_of_sparse_data_and_spectrograms(tmp_path, monkeypatch, capsys):
    """Every race ends at an error that is not above scikit-learn's, in fewer iterations but for plain updates."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    rows = load_example("benchmark_nmf_data").main(small=True, output=tmp_path / "data.csv")
    assert len(rows) == 6
    assert all(row.our_error <= row.error * (1 + 1e-5) for row in rows)
    assert all(row.iterations < row.sklearn_iterations for row in rows if row.method != "mu")
    assert capsys.readouterr().out.count("\n") == 8


@pytest.mark.slow
def test_the_benchmark_of_large_matrices(tmp_path, monkeypatch, capsys):
    """Every part in a process of its own; two find what one finds, with one message an iteration and the callback's."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    found = load_example("benchmark_large_nmf").main(tmp_path, rows=3000, columns=120, k=5, memory=20e6)
    one, two = found["shared by 1"], found["shared by 2"]
    assert two["error"] == pytest.approx(one["error"], rel=1e-3)
    assert two["messages"] == 2 and two["bytes"] == 8 * (25 + 5 * 120 + 1) + 4
    assert found["to_equal_time"]["ours"] < 0.5
    assert "two processes / one" in capsys.readouterr().out


def test_the_benchmark_of_mini_batches(tmp_path, monkeypatch, capsys):
    """Every race ends at an error that is not above scikit-learn's, after fewer batches."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    rows = load_example("benchmark_mini_batch").main(small=True, output=tmp_path / "mini_batch.csv")
    assert [row.start for row in rows] == ["nndsvda", "random"]
    assert all(row.our_error <= row.error < row.start_error for row in rows)
    assert all(row.steps < 0.2 * row.sklearn_steps for row in rows)
    assert capsys.readouterr().out.count("\n") == 3
    with (tmp_path / "mini_batch.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 2


@pytest.mark.slow
def test_the_check_of_a_gpu_tries_itself_on_the_cpu(tmp_path):
    sections = ["machine", "the same as on the CPU", "the layer", "beside others", "warps", "factorize"]
    sections += ["not known or not stored", "training steps", "two processes"]
    options = ["--device", "cpu", "--output", "tried", "--sections", *sections]
    run = run_example("check_cuda", *options, folder=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads((tmp_path / "tried" / "check_cuda.json").read_text())
    assert list(result) == sections
    assert sum(row.get("ok") is True for section in result.values() for row in section["rows"].values()) > 30
    text = (tmp_path / "tried" / "check_cuda.md").read_text()
    assert all(f"| {section} |" in text for section in sections)


def test_the_check_of_a_gpu_fails_where_something_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("check_cuda")

    def broken(device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(example.SECTIONS, "machine", broken)
    rows = {
        "broken": lambda: broken(None),
        "wrong": lambda: {"off by": 1.0, "ok": False},
        "right": lambda: {"ok": True},
    }
    monkeypatch.setitem(example.SECTIONS, "warps", lambda device: rows)
    options = ["--device", "cpu", "--output", str(tmp_path), "--sections", "machine", "warps"]
    monkeypatch.setattr(sys, "argv", ["check_cuda.py", *options])
    with pytest.raises(SystemExit) as ended:
        example.main()
    assert ended.value.code == 1
    assert "3 problems" in capsys.readouterr().out
    text = (tmp_path / "check_cuda.md").read_text()
    assert text.count("**no**") == 3
    assert "| warps | right |  | yes |" in text  # one that fails costs no other


def test_the_check_of_a_gpu_leaves_what_it_has_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("check_cuda")

    def cut_off():
        raise KeyboardInterrupt

    monkeypatch.setitem(example.SECTIONS, "machine", lambda device: {"a row": lambda: {"ok": True}, "next": cut_off})
    with pytest.raises(KeyboardInterrupt):
        example.run(torch.device("cpu"), ["machine"], tmp_path)
    assert json.loads((tmp_path / "check_cuda.json").read_text()) == {"machine": {"rows": {"a row": {"ok": True}}}}


def test_canonical_targets(tmp_path, monkeypatch, capsys):
    """On digits with few steps: every row is there, what was trained is kept, and raw targets are farthest off."""
    options = [
        "--datasets",
        "digits",
        "--k",
        "4",
        "--size",
        "8",
        "8",
        "--groups",
        "24",
        "--unseen",
        "4",
        "--steps",
        "30",
    ]
    options += ["--width", "16", "--seeds", "1"]
    rows = {row["target"]: row for row in canonical_rows(options, tmp_path, monkeypatch)}
    kinds = ["raw", "scaled", "sorted", "canonical", "matched", "none"]
    assert list(rows) == ["HALS itself", "the prototypes", *kinds]
    errors = {name: float(row["relative error"]) for name, row in rows.items()}
    assert min(errors, key=errors.__getitem__) == "HALS itself"
    assert errors["canonical"] < errors["raw"]
    assert float(rows["HALS itself"]["distance to HALS"]) < 1e-6
    assert float(rows["the prototypes"]["equal slots"]) == 1
    assert len(list(tmp_path.glob("digits-*-0.json"))) == len(kinds)
    assert capsys.readouterr().out.count(".json: {") == len(kinds)
    assert {row["target"]: row for row in canonical_rows(options, tmp_path, monkeypatch)} == rows
    assert ".json: {" not in capsys.readouterr().out  # nothing was trained again


def canonical_rows(options, folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["canonical_targets.py", *options, "--output", str(folder)])
    load_example("canonical_targets").main()
    lines = (folder / "canonical_targets.md").read_text(encoding="utf-8").splitlines()[2:]
    header, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_benchmark_of_deep_nmf(monkeypatch, capsys):
    """All ways to take a step have the same gradients; how long they take is no business of a test."""
    options = ["--n", "60", "--m", "30", "--sizes", "6", "3", "--repeats", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_deep_nmf.py", *options])
    load_example("benchmark_deep_nmf").main()
    header, _, *rows = (
        [cell.strip() for cell in line.strip("| ").split("|")] for line in capsys.readouterr().out.splitlines()
    )
    off = [float(dict(zip(header, row, strict=True))["gradients off by"]) for row in rows]
    assert off[0] < 1e-4  # in float32
    assert max(off[1:]) < 1e-9
    assert len(off) == 4


def test_deep_nmf(tmp_path, monkeypatch):
    """On digits: end to end the coarse level is better than level by level, and a head tells more digits apart."""
    options = [
        "--dataset",
        "digits",
        "--count",
        "400",
        "--unseen",
        "200",
        "--hidden",
        "16",
        "--k",
        "6",
        "--epochs",
        "30",
    ]
    rows = run_with_table("deep_nmf", *options, "--label-weights", "1.0", folder=tmp_path, monkeypatch=monkeypatch)
    greedy, deep, labelled = rows
    assert float(deep["coarse level"]) < 0.99 * float(greedy["coarse level"])
    assert float(labelled["accuracy"]) > max(float(greedy["accuracy"]), float(deep["accuracy"])) > 0.5
    assert (tmp_path / "hierarchy.png").stat().st_size > 10_000


def test_the_picture_of_the_readme(tmp_path):
    error = load_example("overview").main("digits", tmp_path / "overview.png", parts=16)  # has fewer than 5,000 images
    assert error < 0.5
    assert (tmp_path / "overview.png").stat().st_size > 10_000
