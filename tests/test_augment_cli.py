"""[data] augment in a configuration, and the picture of it."""

import json
import re

import numpy as np
import pytest
from cli_helpers import run
from fastnn.data import augment, load
from PIL import Image

TOML = """
[data]
source = "digits"
augment = ["RandomVerticalFlip", {name = "RandomCrop", size = 8, padding = 1}, CUT]
[train]
epochs = 8
seed = 3
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(TOML.replace("CUT", '{name = "CutMix", p = 0.5}'))
    return str(path)


def test_preview_shows_what_training_sees(tmp_path, config):
    output = str(tmp_path / "p.png")
    plain = tmp_path / "plain.toml"
    plain.write_text(TOML.replace("CUT", ""))
    run("data", "preview", "-c", plain, "-o", output)
    picture = np.asarray(Image.open(output))
    assert picture.shape == (8 * 50 + 2, 10 * 50 + 2, 3)
    images = load("digits").images.astype(np.uint8)
    chosen = np.linspace(0, len(images) - 1, 8).astype(int)
    pipeline = augment.Compose([augment.RandomVerticalFlip(), augment.RandomCrop(8, padding=1)])
    for column in range(10):
        expected = images[chosen]
        if column > 0:
            expected = pipeline(expected, seed=3, epoch=column - 1, index=chosen)
        for row in range(8):
            top, left = 2 + 50 * row, 2 + 50 * column
            tile = picture[top : top + 48 : 6, left : left + 48 : 6, 0]
            assert (tile == np.round(expected[row, 0] * (255 / 16))).all()
    run("data", "preview", "-c", config, "-o", output)  # CutMix too


def test_train_predict_and_resume(tmp_path, config):
    folder = str(tmp_path / "run")
    result = run("train", "-c", config, "-o", folder, "-q", "--json")
    facts = json.loads(result.stdout)
    assert facts["test_accuracy"] > 0.7
    again = run("train", "-c", config, "-o", str(tmp_path / "again"), "-q", "--json")
    assert json.loads(again.stdout)["test_loss"] == facts["test_loss"]
    run("predict", folder, "digits", "-o", tmp_path / "y.csv")


ERRORS = {
    "augment = ['RandomCorp']": "data.augment: unknown transform 'RandomCorp'; did you mean "
    "'RandomCrop'?",
    "augment = [{name = 'RandomCrop', sise = 3}]": "data.augment: RandomCrop has no option 'sise'; "
    "known: size, padding, pad_if_needed, fill, padding_mode",
    "augment = [{name = 'RandomCrop', size = 0}]": "data.augment: RandomCrop: expected size of "
    "whole numbers >= 1, got 0",
    "augment = [{name = 'RandomOrder', transforms = 3}]": "data.augment: RandomOrder: expected "
    "transforms to be a list",
    "augment = [{name = 'RandomApply', transforms = [3]}]": "data.augment: expected "
    "transforms, got 3",
    "augment = [{name = 'RandomChoice', transforms = ['MixUp']}]": "data.augment: RandomChoice: "
    "expected transforms of single images, got MixUp",
    "augment = ['RandomOrder']": "data.augment: RandomOrder: missing 1 required "
    "positional argument: 'transforms'",
    "augment = [{name = 'CenterCrop', size = 6}]": "data.augment: expected transforms that keep "
    "the shape (1, 8, 8) of images, got (1, 6, 6)",
    "augment = ['RandomInvert']\nwhiten = 'zca'": "data.augment: expected scaling 'standard' or "
    "'none' and no whitening beside it",
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(f"[data]\nsource = 'digits'\n{text}\n")
    result = run("train", "-c", path, "-o", tmp_path / "run", code=2)
    assert re.search(re.escape(f"error: {ERRORS[text]}") + "$", result.stderr.strip())


def test_preview_wants_transforms(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[data]\nsource = 'digits'\n")
    result = run("data", "preview", "-c", path, "-o", tmp_path / "p.png", code=2)
    assert result.stderr == f"error: {path}: expected transforms in data.augment, got none\n"


def test_transforms_of_transforms(tmp_path):
    path = tmp_path / "order.toml"
    path.write_text(
        "[data]\nsource = 'digits'\n[[data.augment]]\nname = 'RandomOrder'\n"
        "transforms = ['RandomInvert', {name = 'RandomChoice', transforms = ['RandomEqualize']}]\n"
    )
    output = tmp_path / "p.png"
    run("data", "preview", "-c", path, "-o", output)
    assert np.asarray(Image.open(output)).shape == (8 * 50 + 2, 10 * 50 + 2, 3)
