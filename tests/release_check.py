"""What has to hold before a release: the archives are whole and work outside the checkout, on old and new versions.

    make release-check                                      # the gallery whole as well
    python tests/release_check.py --python python3.13       # another Python; may be given several times

Builds the source archive, the wheel out of it, and the wheel that a machine without a compiler makes. Each is installed
into fresh environments: one with the lowest versions that pyproject.toml allows, one with the newest; and there, in an
empty folder, the README's first program runs, the commands, and a training. Downloads torch twice, some 6 GB.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
SMOKE = """
import sys, tempfile, torch, diffnmf
from pathlib import Path
from diffnmf.models import GANUNMF
from diffnmf.solvers import kernel
assert kernel().name == sys.argv[1], kernel()
assert not Path(diffnmf.__file__).is_relative_to(sys.argv[2]), diffnmf.__file__
exec(sys.stdin.read())
assert W.shape == (8, 30, 40) and H.grad.isfinite().all() and diffnmf.nnls(H, Y).converged.all()
compiled = torch.compile(NNLSLayer(), fullgraph=True, backend="eager")
torch.testing.assert_close(compiled(H, Y), NNLSLayer()(H, Y))
assert diffnmf.NMF(3, init="merge").fit(torch.rand(20, 8)).reconstruction_err_ > 0
W = GANUNMF.pretrained("digits-k16").factorize(torch.rand(64, 40))[1]
assert W.shape == (16, 40) and (W >= 0).all()
print("torch", torch.__version__)
"""
COMMANDS = (
    ["--version"],
    ["info"],
    ["train", "--preset", "quick", "--epochs", "1", "--output", "run"],
    ["info", "run"],
    ["evaluate", "run"],
)


@dataclass(frozen=True)
class Archives:
    """What is published, and what a machine without a compiler makes of it."""

    source: Path
    wheel: Path
    pure: Path


def main(pythons: list[str], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    archives = build(output)
    check_contents(archives)
    lowest = output / "lowest.txt"
    lowest.write_text("\n".join(lowest_versions()) + "\n")
    for python in pythons:
        for name, constraints in (("lowest", ["--constraint", str(lowest)]), ("newest", [])):
            said = check_environment(python, archives, output / f"{Path(python).name}-{name}", constraints)
            print(f"{python}, {name} versions: {said}", flush=True)


def build(output: Path) -> Archives:
    """The source archive, the wheel made of it, and the one without compiled kernels."""
    for old in (*output.glob("diffnmf-*"), *output.glob("pure/diffnmf-*")):
        old.unlink()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, ROOT)
    (source,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    with TemporaryDirectory() as folder, tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output / "pure", unpacked)
        run(*command, CC=str(Path(folder, "no-compiler")))
    (pure,) = (output / "pure").glob("*.whl")
    return Archives(source, wheel, pure)


def check_contents(archives: Archives) -> None:
    """Every file of the package is in them, a library in one of the wheels, and the description renders."""
    listed = run("git", "-C", ROOT, "ls-files", "diffnmf").split()
    with tarfile.open(archives.source) as source:
        inside = {name.split("/", 1)[1] for name in source.getnames() if "/" in name}
    missing = {*listed, "README.md", "LICENSE", "hatch_build.py", "pyproject.toml"} - inside
    assert not missing, f"{archives.source.name} has not got {sorted(missing)}"
    for wheel, compiled in ((archives.wheel, True), (archives.pure, False)):
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        assert set(listed) <= names, f"{wheel.name} has not got {sorted(set(listed) - names)}"
        libraries = [name for name in names if re.search(r"_kernels\.(so|dylib|dll)$", name)]
        assert len(libraries) == compiled, f"{wheel.name}: {libraries}"
        assert wheel.name.endswith("-none-any.whl") != compiled, wheel.name
    run(sys.executable, "-m", "twine", "check", "--strict", archives.source, archives.wheel, archives.pure)


def lowest_versions() -> list[str]:
    """Constraints that pin every dependency with a lower bound to it."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [dependency.replace(">=", "==") for dependency in dependencies if ">=" in dependency]


def check_environment(python: str, archives: Archives, folder: Path, constraints: list[str]) -> str:
    """Install the archives one after the other into a fresh environment, try each, and tell what was there."""
    run(python, "-m", "venv", "--clear", folder)
    own = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    install = (own, "-m", "pip", "install", "--quiet", "--prefer-binary")
    run(*install, *constraints, archives.wheel)
    said = [smoke(own, "c")]
    for archive, kernel in ((archives.pure, "torch"), (archives.source, "c")):
        run(*install, "--force-reinstall", "--no-deps", archive)
        said.append(smoke(own, kernel))
    assert len(set(said)) == 1
    return f"{run(own, '--version').strip()}, {said[0]}"


def smoke(python: str, kernel: str) -> str:
    """What a newcomer does first, in an empty folder; returns what it says of the versions."""
    (first, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    with TemporaryDirectory() as folder:
        said = run(python, "-c", SMOKE, kernel, ROOT, cwd=folder, read=first)
        for arguments in COMMANDS:
            run(python, "-m", "diffnmf", *arguments, cwd=folder)
    return said.strip()


def run(*command: str | Path, cwd: str | None = None, read: str | None = None, **environment: str) -> str:
    """What a command prints; if it fails, so does the check, and shows it."""
    hidden = ("PYTHONPATH", "DIFFNMF_DATA", "DIFFNMF_KERNEL", "VIRTUAL_ENV")
    around = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        input=read,
        env={**around, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = " ".join(str(word) for word in command if "\n" not in str(word))
        raise SystemExit(f"{words}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="an interpreter to try, by name or path; this one by default")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "release", help="archives and environments")
    given = parser.parse_args()
    main(given.python or [sys.executable], given.output)
