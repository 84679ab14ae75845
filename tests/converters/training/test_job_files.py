"""Trainings from configurations and scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.training.job import Augmentation, OptimizerOptions, TrainingJob
from converters.training.job_files import read_job
from converters.training.options import TrainingOptions
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UsageError

SMALLEST = 'model = "m.keras"\noutput = "out.tflite"\n'
DATA = '[data]\ntraining = "train.npz"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train", "validation"):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((4, 2), np.float32), y=np.arange(4))
    return tmp_path


def job(folder: Path, text: str) -> TrainingJob:
    (folder / "job.toml").write_text(text)
    return read_job(folder / "job.toml")


def test_the_smallest_configuration_has_the_defaults(folder: Path) -> None:
    read = job(folder, SMALLEST + DATA)
    assert read.model == folder / "m.keras" and read.output == folder / "out.tflite"
    assert read.checkpoints == folder / "out.tflite.checkpoints"
    assert read.recipe.levels == (2, 4, 6, 8)
    assert (read.epochs, read.batch, read.seed, read.devices) == (10, 128, 0, 1)
    assert read.options == TrainingOptions(levels_per_step=2)
    assert len(read.data) == 4 and read.validation is None


def test_a_configuration_can_say_everything(folder: Path) -> None:
    read = job(
        folder,
        SMALLEST
        + 'recipe = "uniform"\nlevels = [4, 8]\nepochs = 3\nbatch = 16\nseed = 7\n'
        + DATA
        + 'validation = "validation.npz"\ncalibration = "train.npz"\n'
        + '[optimizer]\nname = "sgd"\nrate = 0.1\nschedule = "constant"\nwarmup = 0\nmomentum = 0.5\n'
        + "[augmentation]\nflip = true\nshift = 4\n"
        + "[options]\nalpha = 0.5\nactivations = true\nlevels_per_step = 3\n",
    )
    assert read.recipe.levels == (4, 8) and read.recipe.rules == ()
    assert (read.epochs, read.batch, read.seed) == (3, 16, 7)
    assert read.optimizer == OptimizerOptions("sgd", 0.1, "constant", 0, 0.5)
    assert read.augmentation == Augmentation(True, 4)
    assert read.options == TrainingOptions(alpha=0.5, activations=True, levels_per_step=3)
    assert read.validation is not None and len(read.calibration_samples()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALLEST + "epochs = 0\n" + DATA, "epochs is 0, 1 or more was expected"),
        (SMALLEST + "epoch = 3\n" + DATA, "unknown key 'epoch'"),
        (SMALLEST + "epochs = 2.5\n" + DATA, "epochs of .* is 2.5, a whole number was expected"),
        (SMALLEST + "levels = 8\n" + DATA, "levels of .* is 8, a list was expected"),
        (SMALLEST + 'levels = ["8"]\n' + DATA, "a level of .* is '8', a whole number was expected"),
        (SMALLEST + "seed = -1\n" + DATA, "seed is -1"),
        (SMALLEST + "batch = 9\ndevices = 2\n" + DATA, "9 samples cannot be shared evenly by 2 devices"),
        (SMALLEST, "names no training data"),
        ('output = "o"\n' + DATA, "has no model"),
        ('model = "m"\n' + DATA, "has no output"),
        (SMALLEST + DATA + "[optimizer]\nname = 'adma'\n", "there is no optimizer 'adma'"),
        (SMALLEST + DATA + "[optimizer]\nrate = 0\n", "the learning rate is 0.0, more than 0 was expected"),
        (SMALLEST + DATA + "[optimizer]\nschedule = 'line'\n", "there is no schedule 'line'"),
        (SMALLEST + DATA + "[optimizer]\nmomentum = 1.0\n", "momentum 1.0"),
        (SMALLEST + DATA + "[augmentation]\nshift = -1\n", "shift is -1 pixels"),
        (SMALLEST + DATA + "[options]\nlevels_per_step = 1\n", "levels_per_step is 1, 2 or more"),
        ("model = ", "is no TOML file"),
    ],
)
def test_what_makes_no_sense_is_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        job(folder, text)


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.npz: no such file"):
        job(folder, SMALLEST + '[data]\ntraining = "none.npz"\n')
    with pytest.raises(FormatError, match=r"none\.toml: no such file"):
        read_job(folder / "none.toml")
    with pytest.raises(UsageError, match=r"none\.py: no such file"):
        read_job(folder / "none.py")
    with pytest.raises(UsageError, match=r"job\.yaml: is no configuration"):
        read_job(folder / "job.yaml")


SCRIPT = """
import helper
import tflnest
from tflnest.dataset import Dataset

def job():
    return tflnest.TrainingJob(model="m.keras", data=Dataset(helper.x), output="out.tflite", epochs=2)
"""


def test_a_script_makes_its_own_job_and_imports_its_neighbours(folder: Path) -> None:
    (folder / "helper.py").write_text("import numpy as np\nx = np.zeros((5, 2), np.float32)\n")
    (folder / "training.py").write_text(SCRIPT)
    read = read_job(folder / "training.py")
    assert read.epochs == 2 and len(read.data) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"has no function job\(\) that returns a tflnest.TrainingJob"),
        ("def job(): return 3\n", "has no function"),
        ("def job(): return 1 / 0\n", "failed: ZeroDivisionError: division by zero"),
        ("import none_of_this\n", "failed: ModuleNotFoundError"),
        ("import sys; sys.exit(3)\n", "failed: SystemExit: 3"),
        ("def job(:\n", "failed: SyntaxError"),
    ],
)
def test_a_script_that_fails_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "training.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_job(folder / "training.py")


def test_own_batches_need_calibration_samples() -> None:
    with pytest.raises(UsageError, match="data is a list, and there are no calibration samples"):
        TrainingJob(model="m", data=[], output=Path("o"))
    samples = Dataset(np.zeros((3, 2), np.float32))
    assert (
        TrainingJob(model="m", data=[], output=Path("o"), calibration=samples).calibration_samples()
        is samples
    )
