"""s4edge's readers compared with upstream's own code, which is no part of this repository.

python tools/upstream/run.py random --upstream FOLDER --version v4 --count 500
python tools/upstream/run.py random --upstream FOLDER --version v2 --cauchy FOLDER-OF-V4
python tools/upstream/run.py random ... --only SEED
python tools/upstream/run.py families --upstream FOLDER [--h3 | --record FILE]
"""

from __future__ import annotations

import collections
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

HERE = Path(__file__).resolve().parent
# Its own folder is no place to import from: upstream has modules of the same names.
sys.path[:] = [str(HERE.parent), *(path for path in sys.path if Path(path).resolve() != HERE)]

from upstream import families as known_families  # noqa: E402
from upstream import published  # noqa: E402
from upstream.checkout import VERSIONS, CannotError, Checkout, open_checkout  # noqa: E402
from upstream.draws import WAYS, Draw, draw  # noqa: E402
from upstream.models import UnfitError, build, record, save  # noqa: E402
from upstream.verdict import OUTCOMES, Verdict, is_case, judge, reason, recorded_case  # noqa: E402

FIGURES = HERE.parents[1] / "tests" / "checkpoints" / "upstream.json"
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def main() -> None:
    """Compare s4edge's readers with upstream's own code."""


def upstream_options(command: click.Command) -> click.Command:
    """The options that say where upstream is."""
    for option in (
        click.option("--cauchy", type=FOLDER, help="A checkout of version 4, for the others."),
        click.option("--version", type=click.Choice(VERSIONS), default="v4", show_default=True),
        click.option("--upstream", "folder", type=FOLDER, required=True, help="The checkout."),
    ):
        command = option(command)
    return command


def opened(folder: Path, version: str, cauchy: Path | None) -> Checkout:
    """The checkout, or the command's end with a line that says what is missing."""
    torch.set_num_threads(1)
    try:
        return open_checkout(folder, version, cauchy)
    except CannotError as error:
        raise click.ClickException(str(error)) from error


def tried(upstream: Checkout, drawn: Draw, folder: Path) -> Verdict | None:
    """What becomes of a draw; None if upstream itself cannot run it."""
    try:
        recorded = record(lambda: build(upstream, drawn), drawn)
    except UnfitError as error:
        return Verdict("unfit", str(error))
    path = save(recorded, drawn, folder)
    verdict = judge(path, recorded, drawn)
    for written in folder.iterdir():
        written.unlink()
    return verdict


@main.command()
@upstream_options
@click.option("--count", default=100, show_default=True, help="How many models to compare.")
@click.option("--seed", default=0, show_default=True, help="The first one's.")
@click.option("--only", type=int, help="This seed alone; tells its whole configuration.")
@click.option("--way", type=click.Choice(WAYS), help="How they are given, instead of drawn.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
@click.option("--write", is_flag=True, help="Keep the figures for docs/layouts.md.")
@click.option("--refused", is_flag=True, help="Tell the refused ones' configurations, too.")
def random(
    folder: Path, version: str, cauchy: Path | None, count: int, seed: int, only: int | None,
    way: str | None, as_json: bool, write: bool, refused: bool,
) -> None:  # fmt: skip
    """Random configurations of upstream's classes: exact, refused, WRONG or CRASH."""
    upstream = opened(folder, version, cauchy)
    tally: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    unfit: collections.Counter[str] = collections.Counter()
    bad: list[dict[str, object]] = []
    streamed, start, this = 0, time.perf_counter(), only if only is not None else seed
    with tempfile.TemporaryDirectory() as temporary:
        while sum(tally.values()) < (1 if only is not None else count):
            drawn = draw(version, this, way)
            this += 1
            verdict = tried(upstream, drawn, Path(temporary))
            if verdict.outcome == "unfit":
                unfit[reason(verdict.message)[:100]] += 1
                if only is not None:
                    raise click.ClickException(
                        f"upstream cannot run seed {only}: {verdict.message}\n{drawn.config}"
                    )
                continue
            tally[verdict.outcome] += 1
            streamed += verdict.streams
            if verdict.outcome == "refused":
                reasons[reason(verdict.message)] += 1
            if (
                verdict.outcome in ("WRONG", "CRASH")
                or only is not None
                or refused * (verdict.outcome == "refused")
            ):
                bad.append(told := told_of(drawn, verdict))
                if not as_json:
                    click.echo(json.dumps(told))
    seconds = time.perf_counter() - start
    figures = {
        "version": version, "seeds": [seed, this - 1], "outcomes": dict(tally),
        "streamed": streamed, "unfit": sum(unfit.values()), "refused": dict(reasons.most_common()),
    }  # fmt: skip
    if write:
        keep("random", version, [figures])
    if as_json:
        click.echo(json.dumps(figures | {"seconds": round(seconds, 1), "bad": bad}))
        return
    counts = ", ".join(f"{tally[outcome]} {outcome}" for outcome in OUTCOMES)
    click.echo(
        f"{version}: {counts} of {sum(tally.values())}; {streamed} streamed, too; seeds {seed} to "
        f"{this - 1}, of which upstream cannot run {sum(unfit.values())}; {seconds:.0f} s"
    )
    for why, times in reasons.most_common():
        click.echo(f"  refused {times}: {why}")
    for why, times in unfit.most_common(8):
        click.echo(f"  upstream cannot {times}: {why}")


@main.command()
@upstream_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--write", is_flag=True, help="Keep the table for docs/layouts.md.")
def experiments(
    folder: Path, version: str, cauchy: Path | None, as_json: bool, write: bool
) -> None:
    """Every published experiment: composed, shrunken, saved as its trainer does, and read."""
    upstream = opened(folder, version, cauchy)
    tally: collections.Counter[str] = collections.Counter()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for found in published.run(upstream, Path(temporary)):
            tally[found.outcome] += 1
            rows.append({key: value for key, value in vars(found).items() if value})
            if as_json:
                click.echo(json.dumps(vars(found)))
                continue
            said = f" --set {json.dumps(found.facts)}" if found.facts else ""
            streams = " streams" * found.streams
            click.echo(f"{found.outcome:8} {found.name}{said}{streams}  {found.message}")
    if write:
        keep("experiments", version, rows)
    if not as_json:
        click.echo(", ".join(f"{count} {outcome}" for outcome, count in tally.most_common()))


@main.command()
@click.argument("folder", type=FOLDER)
def cases(folder: Path) -> None:
    """What each recorded case of a folder gets, a line each: NAME.pt or .ckpt beside NAME.npz."""
    torch.set_num_threads(1)
    found = [recorded_case(path) for path in sorted(folder.iterdir()) if is_case(path)]
    width = max((len(name) for name, _ in found), default=0)
    for name, verdict in found:
        more = ", streams" * verdict.streams
        said = f" (--set {json.dumps(verdict.asked)})" if verdict.asked else ""
        click.echo(f"{name:{width}}  {verdict.outcome:7}  {verdict.message}{more}{said}")
    tally = collections.Counter(verdict.outcome for _, verdict in found)
    click.echo(", ".join(f"{tally[outcome]} {outcome}" for outcome in OUTCOMES if tally[outcome]))


@main.command()
@upstream_options
@click.option("--h3", "is_h3", is_flag=True, help="It is one of HazyResearch/H3 instead.")
@click.option(
    "--record",
    "path",
    type=click.Path(path_type=Path),
    help="Write Mega's averages, which are read, with outputs into an .npz, and no more.",
)
def families(
    folder: Path, version: str, cauchy: Path | None, is_h3: bool, path: Path | None
) -> None:
    """SaShiMi, S4ND, Mega and H3 as their own classes: refused whole, reduced in place."""
    upstream = opened(folder, version, cauchy)
    if path is not None:
        known_families.record(known_families.averages(upstream), path)
        return
    of = known_families.members_of_h3 if is_h3 else known_families.members
    for member in of(upstream):
        click.echo(known_families.told(member))


def keep(what: str, version: str, rows: list[dict[str, Any]]) -> None:
    """Put a version's figures among those that `tools/layouts.py` makes the page of."""
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    others = [row for row in known.get(what, []) if row["version"] != version]
    all_rows = others + rows
    known[what] = sorted(all_rows, key=lambda row: VERSIONS.index(row["version"]))
    FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def told_of(drawn: Draw, verdict: Verdict) -> dict[str, object]:
    """One line about one model, with all that is needed to make it again."""
    return {
        "outcome": verdict.outcome, "name": drawn.name, "message": verdict.message,
        "way": drawn.way, "asked": verdict.asked, "cls": drawn.cls, "length": drawn.length,
        "ran": drawn.ran, "noise": drawn.noise, "config": drawn.config,
    }  # fmt: skip


if __name__ == "__main__":
    main()
