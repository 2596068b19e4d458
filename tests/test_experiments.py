"""The experiments of the lectures, in their small sizes: every number within its range."""

import json

import pytest
from cli_helpers import run as run_cli
from fastnn import experiments
from fastnn.experiments.result import Result, at_least, at_most, between, equal, near
from matplotlib.figure import Figure
from PIL import Image


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_numbers_are_those_of_the_lectures(name):
    result = experiments.run(name, quick=True)
    assert [str(n) for n in result.numbers if not n.ok] == []
    names = [n.name for n in result.numbers]
    assert len(set(names)) == len(names) > 1
    assert all(n.why for n in result.numbers)
    figure = Figure(figsize=result.size)
    result.draw(figure)
    assert figure.axes


def test_every_module_is_listed():
    import pkgutil

    modules = {m.name for m in pkgutil.iter_modules(experiments.__path__)} - {"common", "result"}
    assert {name.replace("-", "_") for name in experiments.EXPERIMENTS} == modules


NAN = float("nan")


@pytest.mark.parametrize(("made", "ok"), [
    (near("a", 1.04, 1, "w", rel=0.05), True),
    (near("a", 1.06, 1, "w", rel=0.05), False),
    (near("a", -1.06, -1, "w", rel=0.05), False),
    (near("a", 0.1, 0, "w", abs=0.2), True),
    (near("a", NAN, 0, "w", abs=0.2), False),
    (equal("a", 2, 2, "w"), True),
    (equal("a", 2.0000001, 2, "w"), False),
    (at_least("a", 1, 1, "w"), True),
    (at_least("a", NAN, 1, "w"), False),
    (at_most("a", 1.1, 1, "w"), False),
    (between("a", 0.5, 0, 1, "w"), True),
    (between("a", 1.5, 0, 1, "w"), False),
])  # fmt: skip
def test_a_number_is_ok_in_its_range_only(made, ok):
    assert made.ok is ok


def test_a_result_says_what_is_off():
    numbers = [equal("legs", 4, 4, "w"), at_most("heads", float("inf"), 1, "w")]
    result = Result(numbers, lambda figure: None, table="layer  std")
    assert str(result).splitlines() == [
        "layer  std", "",
        "number  measured  expected",
        "legs           4         4   OK",
        "heads        inf       ≤ 1  OFF",
    ]  # fmt: skip
    assert not result.ok
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["numbers"][1] == {
        "name": "heads", "measured": None, "low": None, "high": 1, "expected": "≤ 1", "why": "w",
        "ok": False,
    }  # fmt: skip


def test_a_seed_fixes_the_numbers():
    one, again, other = (
        [n.measured for n in experiments.run("sigmoid-saturation", seed, quick=True).numbers]
        for seed in (3, 3, 4)
    )
    assert one == again != other


# ---- the command --------------------


def test_list():
    lines = run_cli("lab", "list").stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "id", "lectures"]
    assert lines[1].split() == [
        "init-stats", "X1-X5,", "X7", "000", "ten", "layers", "of", "500:", "five", "ways", "to",
        "draw", "weights",
    ]  # fmt: skip
    rows = json.loads(run_cli("lab", "list", "--json").stdout)
    assert [row["name"] for row in rows] == list(experiments.EXPERIMENTS)
    assert set(rows[0]) == {"name", "ids", "lectures", "line"}


@pytest.mark.usefixtures("elsewhere")
def test_run_writes_numbers_and_pictures():
    result = run_cli("lab", "run", "adam-first-step", "zigzag", "-o", "out")
    assert "adam-first-step (X20): Adam with and without bias correction" in result.stdout
    assert "3.162 ± 0.1 %  OK\n" in result.stdout
    assert result.stderr.startswith("adam-first-step: ")
    with Image.open("out/zigzag.png") as picture:
        assert picture.size == (990, 396)
    with open("out/zigzag.json") as file:
        assert json.load(file)["ok"] is True


@pytest.mark.usefixtures("elsewhere")
def test_run_animates_the_race(monkeypatch):
    from fastnn.experiments import optimizer_race

    draw = optimizer_race._animate

    def three(figure, saddle):
        return draw(figure, {name: path[:3] for name, path in saddle.items()})

    monkeypatch.setattr(optimizer_race, "_animate", three)
    out = json.loads(run_cli("lab", "run", "optimizer-race", "--quick", "--json").stdout)
    assert out["optimizer-race"]["files"][2] == "lab/optimizer-race.gif"
    with Image.open("lab/optimizer-race.gif") as picture:
        assert (picture.n_frames, picture.size) == (3, (512, 384))


@pytest.mark.usefixtures("elsewhere")
def test_a_number_that_is_off_fails_the_command(monkeypatch):
    from fastnn.experiments import zigzag

    monkeypatch.setattr(zigzag, "RATE", 0.01)
    result = run_cli("lab", "run", "zigzag", code=1)
    assert "OFF" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "error: lab: expected every number in its range, got 2 off: zigzag: SGD: way along the "
        "steep axis"
    )


@pytest.mark.parametrize(("name", "hint"), [
    ("init-stat", "did you mean 'init-stats'?"),
    ("nothing like it", "'fastnn lab list' shows them"),
])  # fmt: skip
def test_an_unknown_name(name, hint):
    with pytest.raises(ValueError, match="experiments") as caught:
        experiments.run(name)
    message = f"experiments: expected the name of one, got {name!r}; {hint}"
    assert str(caught.value) == message
    assert run_cli("lab", "run", name, code=2).stderr == f"error: {message}\n"


def test_importing_the_list_imports_no_experiment():
    import subprocess
    import sys

    code = (
        "import sys, fastnn.experiments; "
        "print([m for m in sys.modules if m.startswith(('fastnn.experiments.', 'matplotlib'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['fastnn.experiments.result']"
