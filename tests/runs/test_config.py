"""Configurations: what is written can be read, what cannot be read is said."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import yaml

from diffnmf.errors import RunFolderError
from diffnmf.models import W_SOLVERS
from diffnmf.runs import PRESETS, DataConfig, ModelConfig, RunConfig
from diffnmf.training import TrainingConfig

OTHER = RunConfig(
    DataConfig("./my images: α.npy", 12, "class", 7),
    ModelConfig(k=3, w_solver="fc", width=16, critic_width=8, unit_norm=True),
    TrainingConfig(
        epochs=0,
        batch_size=1,
        learning_rate=1e-5,
        critic_learning_rate=3e-6,
        betas=(0.25, 0.9),
        reconstruction_weight=0.0,
        adversarial=False,
        adversarial_form="saturating",
        flip_probability=1.0,
        pca_rank=2,
        accumulate=3,
        ema_decay=0.0,
        precision="bfloat16",
        deterministic=True,
        checkpoint_every=5,
        picture_every=None,
        seed=123456789012,
    ),
)


class TestYaml:
    @pytest.mark.parametrize("config", [RunConfig(), OTHER], ids=["defaults", "other"])
    def test_round_trip(self, config, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(config.to_yaml(), encoding="utf-8")
        assert RunConfig.from_yaml(file) == config

    def test_a_size_for_the_images(self, tmp_path):
        config = RunConfig().with_options(resize=(28, 20))
        assert yaml.safe_load(config.to_yaml())["data"]["resize"] == [28, 20]
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert RunConfig.from_yaml(tmp_path / "config.yaml") == config
        assert config.differences(RunConfig().to_dict()) == ["resize is [28, 20] here and was None"]

    def test_is_plain(self):
        content = yaml.safe_load(OTHER.to_yaml())
        assert list(content) == ["data", "model", "training"]
        assert content["training"]["betas"] == [0.25, 0.9]

    def test_what_is_left_out_has_its_default(self, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text("model: {k: 7}\n")
        assert RunConfig.from_yaml(file) == replace(RunConfig(), model=ModelConfig(k=7))

    @pytest.mark.parametrize(
        ("text", "option", "value"),
        [
            ("model: {k: 0x10}", "k", 16),
            ("model: {k: 1_0}", "k", 10),
            ("model: {unit_norm: yes}", "unit_norm", True),
            ("model: {unit_norm: off}", "unit_norm", False),
            ("model: {l1: 0, unit_norm: on}", "l1", 0),
            ("training: {learning_rate: 0.5}", "learning_rate", 0.5),
            ("training: {learning_rate: 05.5}", "learning_rate", 5.5),
            ("training: {learning_rate: 1.0e-3}", "learning_rate", 0.001),
            ("training: {betas: [0, 0.9]}", "betas", (0.0, 0.9)),
        ],
    )
    def test_yaml_means_what_it_looks_like(self, text, option, value, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        assert getattr(getattr(RunConfig.from_yaml(file), text.partition(":")[0]), option) == value

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: {k: 5", "expected a configuration in YAML"),
            ("a: [1, 2", "expected a configuration in YAML"),
            ("!!python/object/apply:os.getcwd []", "expected a configuration in YAML"),
            ("model: {k: 5}\nmodel: {depth: 1}", "line 2: model is there twice"),
            ("model:\n  k: 5\n  depth: 1\n  k: 6", "line 4: k is there twice"),
            ("model:\n  k: 010", "line 2: k: expected numbers as they are usually written; got 010, .* reads as 8"),
            ("training: {seed: 007}", "line 1: seed: expected numbers as .*; got 007"),
            ("model: {k: 1:30}", "k: expected numbers as .*; got 1:30, which YAML reads as 90"),
            ("training: {learning_rate: 1:30.5}", "learning_rate: .*got 1:30.5, which YAML reads as 90.5"),
            ("training: {betas: [0.5, 010]}", "betas: expected numbers as .*; got 010"),
            ("training: {learning_rate: 1e-3}", "learning_rate: expected .*; got '1e-3' .*write 1.0e-3 or 0.001"),
            ("model: {basis_init: no}", "basis_init: expected one of merge, spa; got False"),
            ("data: {dataset: on}", "dataset: expected a name or a path; got True"),
            ("!!map 5", "expected a configuration in YAML"),
            ("!!map [1, 2]", "expected a configuration in YAML"),
            ("", "expected the entries data, model, training; got None"),
            ("- 1\n- 2\n", r"expected the entries data, model, training; got \[1, 2\]"),
            ("model: 5", "expected the entries k, w_solver.*; got 5"),
            ("training:", "expected the entries epochs.*; got None"),
            ("modle: {k: 5}", "entry: expected one of data, model, training; got 'modle'"),
            ("model: {K: 5}", "entry: expected one of basis_init, critic_width, depth, k, .*; got 'K'"),
            ("training: {lr: 1}", "entry: expected one of accumulate, .*learning_rate.*; got 'lr'"),
            ("data: {7: 1}", "entry: expected one of dataset.*; got 7"),
            ("model: {k: 0}", "k: expected an int ≥ 1; got 0"),
            ("model: {k: ten}", "k: expected an int ≥ 1; got 'ten'"),
            ("model: {w_solver: nope}", "w_solver: expected one of .*unrolled.*; got 'nope'"),
            ("training: {epochs: -1}", "epochs: expected an int ≥ 0; got -1"),
            ("training: {betas: 5}", "betas"),
            ("training: {flip_probability: 2}", r"flip_probability: expected a number in \[0, 1\]; got 2"),
            ("training: {learning_rate: fast}", "learning_rate: .*'?fast"),
            ("training: {adversarial_form: wgan}", "adversarial_form: expected one of .*; got 'wgan'"),
        ],
    )
    def test_errors_name_the_file_and_the_entry(self, text, message, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RunFolderError, match=message) as caught:
            RunConfig.from_yaml(file)
        assert str(file) in str(caught.value)

    def test_no_text_at_all(self, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(RunFolderError, match="expected a configuration in YAML"):
            RunConfig.from_yaml(file)
        with pytest.raises(RunFolderError, match=r"missing\.yaml"):
            RunConfig.from_yaml(tmp_path / "missing.yaml")


class TestValues:
    def test_are_frozen(self):
        with pytest.raises(FrozenInstanceError):
            ModelConfig().k = 3

    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    def test_every_w_solver_is_known(self, w_solver):
        assert ModelConfig(w_solver=w_solver).w_solver == w_solver

    @pytest.mark.parametrize(
        ("config", "options", "error"),
        [
            (DataConfig, {"resize": 28}, TypeError),
            (DataConfig, {"resize": [28, 0]}, ValueError),
            (DataConfig, {"dataset": ""}, ValueError),
            (DataConfig, {"dataset": None}, TypeError),
            (DataConfig, {"group_size": 0}, ValueError),
            (DataConfig, {"group_size": "40"}, TypeError),
            (DataConfig, {"order": "sorted"}, ValueError),
            (DataConfig, {"limit_groups": 0}, ValueError),
            (DataConfig, {"limit_test_groups": 1.0}, TypeError),
            (ModelConfig, {"k": 0}, ValueError),
            (ModelConfig, {"k": 2.5}, TypeError),
            (ModelConfig, {"k": None}, TypeError),
            (ModelConfig, {"width": 0}, ValueError),
            (ModelConfig, {"critic_width": -1}, ValueError),
            (ModelConfig, {"depth": -1}, ValueError),
            (ModelConfig, {"depth": 1.0}, TypeError),
            (ModelConfig, {"unit_norm": 1}, TypeError),
            (ModelConfig, {"mixture": "no"}, TypeError),
            (ModelConfig, {"l1": "0.1"}, TypeError),
            (ModelConfig, {"w_solver": "nope"}, ValueError),
            (ModelConfig, {"start_from": 3}, TypeError),
            (TrainingConfig, {"epochs": -1}, ValueError),
            (TrainingConfig, {"epochs": 1.0}, TypeError),
            (TrainingConfig, {"epochs": True}, TypeError),
            (TrainingConfig, {"seed": 0.5}, TypeError),
            (TrainingConfig, {"seed": -1}, ValueError),
            (TrainingConfig, {"batch_size": 0}, ValueError),
            (TrainingConfig, {"batch_size": True}, TypeError),
            (TrainingConfig, {"learning_rate": 0.0}, ValueError),
            (TrainingConfig, {"learning_rate": float("nan")}, ValueError),
            (TrainingConfig, {"learning_rate": float("inf")}, ValueError),
            (TrainingConfig, {"learning_rate": True}, TypeError),
            (TrainingConfig, {"critic_learning_rate": 0.0}, ValueError),
            (TrainingConfig, {"betas": 0.5}, TypeError),
            (TrainingConfig, {"betas": (0.5, 1.0)}, ValueError),
            (TrainingConfig, {"betas": (0.5, "0.9")}, TypeError),
            (TrainingConfig, {"reconstruction_weight": -1.0}, ValueError),
            (TrainingConfig, {"reconstruction_weight": float("nan")}, ValueError),
            (TrainingConfig, {"flip_probability": 1.1}, ValueError),
            (TrainingConfig, {"flip_probability": -0.1}, ValueError),
            (TrainingConfig, {"adversarial": "yes"}, TypeError),
            (TrainingConfig, {"adversarial_form": "wgan"}, ValueError),
            (TrainingConfig, {"pca_rank": 0}, ValueError),
            (TrainingConfig, {"accumulate": 0}, ValueError),
            (TrainingConfig, {"ema_decay": 1.0}, ValueError),
            (TrainingConfig, {"precision": "no"}, ValueError),
            (TrainingConfig, {"deterministic": 0}, TypeError),
            (TrainingConfig, {"checkpoint_every": 0}, ValueError),
            (TrainingConfig, {"picture_every": 0}, ValueError),
        ],
    )
    def test_errors_name_the_argument(self, config, options, error):
        """The wrong kind is a TypeError, out of range a ValueError, whatever the option."""
        ((name, _),) = options.items()
        with pytest.raises(error, match=f"^{name}: expected"):
            config(**options)

    def test_numbers_of_numpy_are_welcome_and_written_as_plain_ones(self):
        config = RunConfig().with_options(
            k=np.int64(2),
            epochs=np.int32(3),
            learning_rate=np.float32(0.5),
            unit_norm=np.bool_(True),
            l1=np.float64(1.5),
        )
        assert config == RunConfig().with_options(k=2, epochs=3, learning_rate=0.5, unit_norm=True, l1=1.5)
        content = yaml.safe_load(config.to_yaml())
        assert (content["model"]["k"], content["training"]["epochs"], content["model"]["l1"]) == (2, 3, 1.5)

    def test_two_numbers_in_a_list_are_a_pair(self):
        assert TrainingConfig(betas=[0.1, 0.2]).betas == (0.1, 0.2)


class TestLayers:
    """A preset, a file over it, options over both."""

    def test_a_file_over_a_preset(self, tmp_path):
        file = tmp_path / "mine.yaml"
        file.write_text("model: {width: 7}\ntraining: {betas: [0.1, 0.2]}\n")
        config = RunConfig.from_yaml(file, PRESETS["quick"])
        assert (config.data.dataset, config.model.k, config.model.width) == ("digits", 10, 7)
        assert config.training == replace(PRESETS["quick"].training, betas=(0.1, 0.2))

    def test_options_find_their_section(self):
        config = RunConfig().with_options(k=3, group_size=20, seed=7, limit_groups=None)
        assert (config.model.k, config.data.group_size, config.training.seed) == (3, 20, 7)
        assert RunConfig().with_options() == RunConfig()

    def test_unknown_options_list_the_known_ones(self):
        with pytest.raises(ValueError, match="option: expected one of accumulate, .*width; got 'lr'"):
            RunConfig().with_options(lr=1)
        with pytest.raises(ValueError, match="^k: expected"):
            RunConfig().with_options(k=0)

    def test_no_two_sections_share_a_name(self):
        names = [option for section in RunConfig().to_dict().values() for option in section]
        assert len(set(names)) == len(names)

    def test_differences(self):
        other = RunConfig().with_options(k=3, epochs=77, batch_size=1, seed=2)
        assert RunConfig().differences(RunConfig().to_dict()) == []
        assert RunConfig().differences(other.to_dict()) == ["k is 30 here and was 3", "seed is 0 here and was 2"]
        assert RunConfig().differences({}) == [], "what an older program did not know is no difference"

    def test_the_older_name_of_a_loss_is_read(self, tmp_path):
        """The loss column_error was called column: in configurations, and in the checkpoints of their runs."""
        config = RunConfig().with_options(reconstruction="column_error")
        (tmp_path / "config.yaml").write_text("training: {reconstruction: column}")
        assert RunConfig.from_yaml(tmp_path / "config.yaml") == config
        saved = config.to_dict()
        saved["training"]["reconstruction"] = "column"
        assert config.differences(saved) == []
        assert RunConfig().differences(saved) == ["reconstruction is 'l1' here and was 'column'"]

    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets_can_be_written_and_read(self, preset, tmp_path):
        (tmp_path / "config.yaml").write_text(PRESETS[preset].to_yaml())
        assert RunConfig.from_yaml(tmp_path / "config.yaml") == PRESETS[preset]
