"""The commands and their options. stdout is the result, stderr the progress.

Exit codes: 0 done, 1 the run failed, 2 bad input, 130 interrupted, 141 nobody reads stdout, 143
terminated.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from fastnn import CudaError

DATA = (
    "digits, a table (.csv, .tsv, .parquet, .arrow), arrays (.npz, .npy), IDX, CIFAR's .bin, "
    "or a folder of images by class"
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train neural networks on this machine.",
)


class RunFailed(Exception):
    """The input was good, but the run did not succeed."""


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    except SystemExit as error:
        if error.code == 143:  # after SIGTERM, and not where the reader of a pipe has gone
            print("terminated", file=sys.stderr)
        raise typer.Exit(int(error.code or 0)) from None
    except BrokenPipeError:  # whoever read the output has enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
    except (RunFailed, CudaError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        is_storage = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        raise typer.Exit(1 if is_storage else 2) from None


@app.command()
def train(
    data: Annotated[str | None, typer.Argument(help=DATA)] = None,
    config: Annotated[str | None, typer.Option("-c", "--config", help="a TOML file")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, e.g. optim.lr=1e-3")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="the run folder; default: runs/<name>-<time>"),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="go on with the run in this folder")] = None,
    label: Annotated[str | None, typer.Option(help="the label column of a table")] = None,
    seed: Annotated[int | None, typer.Option(help="what all random choices depend on")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1, by index")] = None,
    ensemble: Annotated[
        int | None, typer.Option(help="train so many models, and average their probabilities")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print the whole configuration and stop")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="print the result as one JSON object")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="no progress")] = False,
) -> None:
    """Train a classifier and leave a run folder."""
    with exit_codes():
        from fastnn.cli.train import Options, run

        options = Options(
            source=data,
            config=config,
            settings=tuple(settings or ()),
            output=output,
            resume=resume,
            label=label,
            seed=seed,
            device=device,
            ensemble=ensemble,
            json=json,
            quiet=quiet,
        )
        run(options, print_config)


@app.command()
def check(
    data: Annotated[str | None, typer.Argument(help=DATA)] = None,
    config: Annotated[str | None, typer.Option("-c", "--config", help="a TOML file")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, e.g. optim.lr=1e-3")
    ] = None,
    label: Annotated[str | None, typer.Option(help="the label column of a table")] = None,
    seed: Annotated[int | None, typer.Option(help="what all random choices depend on")] = None,
    json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Look for the usual mistakes before a long training; a line for each check."""
    with exit_codes():
        from fastnn.cli.check import run as run_check
        from fastnn.cli.train import Options

        run_check(Options(data, config, tuple(settings or ()), label=label, seed=seed, json=json))


@app.command()
def diagnose(
    run: Annotated[str, typer.Argument(help="a run folder")],
    json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Name what the curves of a run show, and what to do about it."""
    with exit_codes():
        from fastnn.cli.diagnose import run as run_diagnose

        run_diagnose(run, json)


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="a run folder")],
    data: Annotated[str, typer.Argument(help=DATA)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="a CSV to write; default: stdout")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print a JSON object; needs -o")] = False,
) -> None:
    """Predict classes and probabilities with the best model of a run."""
    with exit_codes():
        from fastnn.cli.predict import run as run_predict

        run_predict(run, data, output, json)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="a run folder")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="the page; default: RUN/report.html")
    ] = None,
) -> None:
    """Write one page of HTML about a run: curves, weights, mistakes, settings."""
    with exit_codes():
        from fastnn.cli.report import report as write_report

        print(write_report(run, output))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="run folders, at least two")],
    output: Annotated[str, typer.Option("-o", "--output", help="the page")] = "compare.html",
) -> None:
    """Write one page of HTML with several runs over each other, and where they differ."""
    with exit_codes():
        from fastnn.cli.report import compare as write_comparison

        print(write_comparison(runs, output))


data_app = typer.Typer(no_args_is_help=True, help="Look at data.")
app.add_typer(data_app, name="data")


@data_app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="DATA", help=DATA)],
    label: Annotated[str | None, typer.Option(help="the label column of a table")] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="a PNG to write, with samples of images")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Say what is in a data set: shape, ranges, missing values, classes."""
    with exit_codes():
        from fastnn.cli.inspect import run as run_inspect

        run_inspect(source, label, output, json)


@data_app.command()
def preview(
    config: Annotated[str, typer.Option("-c", "--config", help="a TOML file with data.augment")],
    source: Annotated[str | None, typer.Argument(metavar="[DATA]", help=DATA)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, e.g. train.seed=1")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="the PNG to write")] = "preview.png",
) -> None:
    """Draw what training sees: images as they are, and augmented."""
    with exit_codes():
        from fastnn.cli.augment import preview as run_preview

        run_preview(config, tuple(settings or ()), source, output)


lab_app = typer.Typer(no_args_is_help=True, help="The experiments of the lectures.")
app.add_typer(lab_app, name="lab")


@lab_app.command("list")
def lab_list(
    json: Annotated[bool, typer.Option("--json", help="print a JSON array")] = False,
) -> None:
    """List the experiments."""
    with exit_codes():
        from fastnn.cli.lab import show

        show(json)


@lab_app.command("run")
def lab_run(
    names: Annotated[list[str], typer.Argument(help="experiments, or 'all'")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="a folder for pictures and numbers")
    ] = "lab",
    seed: Annotated[int, typer.Option(help="what all random choices depend on")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="a smaller size of each")] = False,
    json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Run experiments: numbers beside what they should be, and a picture of each."""
    with exit_codes():
        from fastnn.cli.lab import run as run_lab

        run_lab(names, output, seed, quick, json)


@app.command()
def info(
    json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Say what fastnn runs on, and why."""
    with exit_codes():
        from fastnn.cli.info import run as run_info

        run_info(json)
