"""The tests that scikit-learn has for its own NMF and MiniBatchNMF, run with ours: but for the line that imports them.

Functions that scikit-learn keeps to itself (``_nmf``) stay its own; six of the tests are about nothing else.
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import sklearn

pytestmark = pytest.mark.slow  # two minutes of one core

THEIRS = Path(sklearn.__file__).parent / "decomposition" / "tests" / "test_nmf.py"
IMPORT = "from sklearn.decomposition import NMF, MiniBatchNMF, non_negative_factorization\n"
OURS = "from diffnmf import NMF, MiniBatchNMF, non_negative_factorization\n"

MINI_BATCH = re.compile("MiniBatch|mbnmf", re.IGNORECASE)
# About nothing of ours.
PRIVATE = ("test_initialize_nn_output", "test_initialize_close", "test_initialize_variants", "test_beta_divergence")
PRIVATE += ("test_special_sparse_dot", "test_nmf_underflow")

# What fails, and is meant to.
EXPECTED_FAILURES = {
    # A matrix of ones is solved by the start: nothing is left to warn of. scikit-learn warns whenever the last
    # iteration was the one that met the tolerance.
    "test_convergence_warning[NMF-solver0]",
    "test_convergence_warning[NMF-solver1]",
    # Asks for the iterates of multiplicative updates under the squared error, which MiniBatchNMF leaves to coordinate
    # descent.
    "test_nmf_minibatchnmf_equivalence[2]",
    # Feeds two models with different batches, and expects the same components. scikit-learn's have them because both
    # write to the one array that was given as H, and so would be equal whatever they did.
    "test_minibatch_nmf_partial_fit",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The names of the tests, and whether they passed."""
    text = THEIRS.read_text(encoding="utf-8") if THEIRS.is_file() else ""
    if IMPORT not in text:
        pytest.skip(f"scikit-learn {sklearn.__version__} does not come with the tests that are known here")
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "test_theirs.py").write_text(text.replace(IMPORT, OURS), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--junitxml=out.xml"]
    subprocess.run([*command, "test_theirs.py"], cwd=folder, capture_output=True)
    cases = ET.parse(folder / "out.xml").getroot().iter("testcase")
    return {case.get("name"): not len(case.findall("failure") + case.findall("error")) for case in cases}


def test_the_suite_of_scikit_learn_passes_but_for_what_is_known(outcomes):
    failed = {name for name, passed in outcomes.items() if not passed}
    assert failed == EXPECTED_FAILURES


def test_most_of_it_is_about_what_is_public(outcomes):
    public = [name for name in outcomes if not name.startswith(PRIVATE) and not MINI_BATCH.search(name)]
    assert len(public) >= 190
    assert sum(outcomes[name] for name in public) >= 190


def test_most_of_what_is_about_mini_batches_passes(outcomes):
    ours = [name for name in outcomes if MINI_BATCH.search(name)]
    assert len(ours) >= 75
    assert sum(outcomes[name] for name in ours) >= 73
