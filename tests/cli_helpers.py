"""What the tests of the commands share: a short training, and a command run in this process."""

from fastnn.cli.app import app
from typer.testing import CliRunner

SMALL = ["--set", "model.hidden=[8]", "--set", "train.epochs=3"]


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert code in (result.exit_code, None), result.stderr
    return result
