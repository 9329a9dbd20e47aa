"""The command: runs the figures and prints the table."""

import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.figure import FULL, NIGHTLY, TINY, Figure, Result, Scale
from benchmarks.figures import ALL

_NAMES = [figure.name for figure in ALL]


@click.command(epilog="Example: python -m benchmarks claim-depth")
@click.argument("names", nargs=-1, type=click.Choice(_NAMES), metavar="[FIGURE]...")
@click.option("--tiny", is_flag=True, help="A moment of each, to see that they work.")
@click.option("--nightly", is_flag=True, help="Ten million jobs where it is else a million.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the databases go.")
@click.option("--list", "listing", is_flag=True, help="Name the figures and what they need.")
def main(
    names: tuple[str, ...], tiny: bool, nightly: bool, folder: Path | None, listing: bool
) -> None:
    """Measure JobEngine: all figures, or those named.

    Every figure is a ratio within one run; what is missing to take one is said, and
    nothing is installed. Exits 1 where a figure could not be taken.
    """
    if listing:
        for figure in ALL:
            click.echo(f"{figure.name:24} {figure.title}  {figure.needs() or ''}".rstrip())
        return
    scale = TINY if tiny else NIGHTLY if nightly else FULL
    chosen = [figure for figure in ALL if not names or figure.name in names]
    base = folder or Path(tempfile.mkdtemp(prefix="jobengine-benchmarks-"))
    try:
        rows = _run(chosen, scale, base)
    finally:
        if folder is None:
            shutil.rmtree(base)
    _print(rows, scale)
    sys.exit(0 if all(not isinstance(outcome, Exception) for _, outcome in rows) else 1)


def _run(
    chosen: list[Figure], scale: Scale, base: Path
) -> list[tuple[Figure, Result | str | Exception]]:
    rows: list[tuple[Figure, Result | str | Exception]] = []
    with click.progressbar(
        chosen,
        item_show_func=lambda figure: figure.title if figure else "",
        file=sys.stderr,
        show_eta=False,
    ) as bar:
        for figure in bar:
            missing = figure.needs()
            if missing is not None:
                rows.append((figure, missing))
                continue
            try:
                rows.append((figure, figure.run(scale, base / figure.name)))
            except Exception as error:  # noqa: BLE001  shown in the table; the others go on
                rows.append((figure, error))
    return rows


def _print(rows: list[tuple[Figure, Result | str | Exception]], scale: Scale) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("jobengine", "waitress", "falcon"))
    click.echo(f"{platform.machine()}, {platform.system()} {platform.release()}")
    click.echo(f"Python {platform.python_version()}, {packages}; scale: {scale.name}\n")
    click.echo("| figure | ratio | bound | above | below |\n|---|---|---|---|---|")
    for figure, outcome in rows:
        bound = f"{figure.bound[0]} {figure.bound[1]:g}" if figure.bound else ""
        if isinstance(outcome, Result):
            # A moment's load says whether a figure works, not what it is.
            judged = scale is not TINY and not figure.holds(outcome)
            verdict = " **missed**" if judged else ""
            sides = f"{outcome.above:,.0f} {outcome.unit} | {outcome.below:,.0f} {outcome.unit}"
            click.echo(f"| {figure.title} | {outcome.ratio:.2f}{verdict} | {bound} | {sides} |")
            for note in outcome.notes:
                click.echo(f"| {note} | | | | |")
        else:
            reason = outcome if isinstance(outcome, str) else f"failed: {outcome!r}"
            click.echo(f"| {figure.title} | {reason} | {bound} | | |")


if __name__ == "__main__":
    main()
