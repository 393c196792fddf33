"""``docs/paper.md`` and its plots, from the tables that ``run.py`` wrote.

python benchmarks/paper/report.py [--results FOLDER]
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from pathlib import Path

import click
import matplotlib
import scipy.stats
from arms import ARMS
from tables import EPOCHS_AFTER, EPOCHS_BEFORE, STATE, read
from tasks import LARGE, ROOT, TASKS, Task

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Test accuracy in %, by (arm, state size, seed).
Found = dict[tuple[str, int, int], float]
SMALL_ARMS = ("a", "c", "d", "e", "f")
# Pairs or seeds below which nothing is said of a claim.
_FEWEST = 3

HEAD = f"""# The paper's claims, measured

H. Ezoe and K. Sato, "Model Compression Method for S4 with Diagonal State Space Layers using
Balanced Truncation" (2024), reduce every channel of a trained model by balanced truncation of its
complex half-system and train on from there. They claim that such a model beats one trained from the
usual Skew-HiPPO start with as many or more parameters, and observe that more accurate originals
give more accurate small models. Here is what held, on small models that a CPU trains; every number
comes from

    python benchmarks/paper/run.py TABLE     # digits, mnist-rows, spoken, listops, correlation
    python benchmarks/paper/report.py        # this page

Arms, all trained with AdamW, batches of 32, warm-up and cosine, the epoch chosen on validation
data:

{chr(10).join(f"- **{arm}**: {what}" for arm, what in ARMS.items())}

Budgets are equal: `a` trains for as many epochs as the original and the training after reduction
together. Rates are 1e-2 (poles 1e-2, step sizes 2e-3) from scratch and half of it after reduction.
Accuracy in % on test data: mean ± standard deviation over seeds. State size 1 is one real pole per
channel on average; the paper's way, whose modes are conjugate pairs, has none such.
"""


def found_in(path: Path) -> Found:
    """The runs of a table; only seeds whose original is there."""
    return {
        (row["arm"], int(row["state"]), int(row["seed"])): 100 * float(row["accuracy"])
        for row in read(path)
    }


def by_seed(found: Found, arm: str, state: int) -> dict[int, float]:
    """Accuracies of one arm at one size."""
    return {s: value for (a, n, s), value in found.items() if (a, n) == (arm, state)}


def cell(values: list[float], seeds: int) -> str:
    """Mean and spread, and how many there are where it is not all."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return mean + spread + (f" (n={len(values)})" if len(values) < seeds else "")


def table(found: Found) -> list[str]:
    """A row per state size, largest first."""
    states = sorted({state for arm, state, _ in found if arm != "b"}, reverse=True)
    original = list(by_seed(found, "b", LARGE).values())
    seeds = len({seed for _, _, seed in found})
    lines = ["| state | " + " | ".join(SMALL_ARMS) + " |", "|---" * (len(SMALL_ARMS) + 1) + "|"]
    for state in states:
        cells = [cell(list(by_seed(found, arm, state).values()), seeds) for arm in SMALL_ARMS]
        lines.append(f"| {state} (1/{LARGE // state}) | " + " | ".join(cells) + " |")
    return [f"Original (b, state {LARGE}): {cell(original, seeds)}", "", *lines]


def against(found: Found, first: str, second: str, sizes: list[tuple[int, int]]) -> str:
    """How often and by how much one arm beat another, seed by seed.

    Args:
        found: the runs.
        first: the arm that is claimed to be better.
        second: the other one.
        sizes: of the first and of the second, pair by pair.
    """
    differences = [
        value - by_seed(found, second, theirs)[seed]
        for ours, theirs in sizes
        for seed, value in by_seed(found, first, ours).items()
        if seed in by_seed(found, second, theirs)
    ]
    if not differences:
        return "not measured"
    better = sum(each > 0 for each in differences)
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    word = "held" if mean > 2 * error else "did not hold" if mean < -2 * error else "undecided"
    word = word if len(differences) >= _FEWEST else "too few pairs to say"
    return (
        f"**{word}**: {mean:+.1f} points on average (standard error {error:.1f}), better in "
        f"{better} of {len(differences)} pairs"
    )


def claims(task: Task, found: Found) -> list[str]:
    """A line for each claim."""
    sizes = list(task.states)
    smaller, larger = sizes[0], sizes[-1]
    equal = [(state, state) for state in sizes]
    lines = [
        "- The paper's claim at equal size (c beats a): " + against(found, "c", "a", equal),
        "- The paper's claim with fewer parameters (c beats a of the next larger size): "
        + against(found, "c", "a", list(itertools.pairwise(sizes))),
        f"- The same at the ends (c at state {smaller} beats a at {larger}): "
        + against(found, "c", "a", [(smaller, larger)]),
        "- s4edge's start beats the paper's (e beats c): " + against(found, "e", "c", equal),
        f"- Untrained s4edge beats the trained start from scratch (d beats a), state {smaller}: "
        + against(found, "d", "a", equal[:1]),
        "- Distillation without labels beats training on labels (f beats e): "
        + against(found, "f", "e", [(1, 1), *equal]),
    ]
    return lines + [
        f"- (e) at a {name} of the states against the original: {loss(found, state)}"
        for state, name in ((4, "sixteenth"), (2, "thirty-second"), (1, "sixty-fourth"))
        if by_seed(found, "e", state)
    ]


def loss(found: Found, state: int) -> str:
    """What arm e has more or less than the original it was made of."""
    original = by_seed(found, "b", LARGE)
    ours = by_seed(found, "e", state)
    differences = [value - original[seed] for seed, value in ours.items()]
    mean = statistics.mean(differences)
    each = ", ".join(f"{d:+.1f}" for d in differences)
    if len(differences) < _FEWEST:
        return f"too few seeds to say, {mean:+.1f} points (by seed: {each})"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    word = "no loss" if mean >= 0 else "a loss within the spread" if mean > -2 * error else "a loss"
    return f"**{word}**, {mean:+.1f} points (standard error {error:.1f}; by seed: {each})"


def draw(name: str, found: Found, folder: Path) -> None:
    """Accuracy against state size."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for arm in SMALL_ARMS:
        points = sorted({state for a, state, _ in found if a == arm})
        values = [list(by_seed(found, arm, state).values()) for state in points]
        spread = [statistics.stdev(v) if len(v) > 1 else 0 for v in values]
        means = [statistics.mean(v) for v in values]
        axes.errorbar(points, means, spread, marker="o", capsize=3, label=f"{arm}: {ARMS[arm]}")
    original = statistics.mean(by_seed(found, "b", LARGE).values())
    axes.axhline(original, color="black", linestyle=":", label=f"b: original, state {LARGE}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="state size", ylabel="test accuracy, %", title=name)
    axes.legend(fontsize=6)
    figure.savefig(folder / f"{name}.png", dpi=110)
    plt.close(figure)


def correlation(path: Path, folder: Path) -> list[str]:
    """The second observation: a scatter plot, and rank and linear correlation for both ways."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in read(path):
        points[row["arm"]].append((100 * float(row["original"]), 100 * float(row["accuracy"])))
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    lines = [
        f"Originals (digits) trained for {', '.join(map(str, EPOCHS_BEFORE))} epochs, reduced to "
        f"state size {STATE}, then trained for {EPOCHS_AFTER} epochs.",
        "",
        "| arm | originals | accuracy of originals | after | Spearman (p) | Pearson (p) |",
        "|---|---|---|---|---|---|",
    ]
    for arm, pairs in sorted(points.items()):
        before, after = zip(*pairs, strict=True)
        axes.scatter(before, after, label=f"{arm}: {ARMS[arm]}", s=18)
        rank, line = scipy.stats.spearmanr(before, after), scipy.stats.pearsonr(before, after)
        lines.append(
            f"| {arm} | {len(pairs)} | {min(before):.1f} to {max(before):.1f} | {min(after):.1f} "
            f"to {max(after):.1f} | {rank.statistic:.2f} ({rank.pvalue:.2g}) | "
            f"{line.statistic:.2f} ({line.pvalue:.2g}) |"
        )
    ranks = {arm: scipy.stats.spearmanr(*zip(*pairs, strict=True)) for arm, pairs in points.items()}
    held = all(rank.statistic > 0 and rank.pvalue < 0.05 for rank in ranks.values())
    lines += ["", f"The paper's second observation **{'held' if held else 'did not hold'}**."]
    axes.set(xlabel="original's accuracy, %", ylabel="accuracy after training, %")
    axes.legend(fontsize=6)
    figure.savefig(folder / "correlation.png", dpi=110)
    plt.close(figure)
    return [*lines, "", "![correlation](paper/correlation.png)"]


def seconds(path: Path) -> float:
    """That a table took."""
    return sum(float(row["seconds"]) for row in read(path))


@click.command()
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path(__file__).parent / "results"
)
def main(results: Path) -> None:
    """Write the page."""
    folder = ROOT / "docs" / "paper"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [HEAD]
    for name, task in TASKS.items():
        path = results / f"{name}.csv"
        lines.append(f"## {name}\n")
        if not path.exists():
            lines.append("Not measured.\n")
            continue
        found = found_in(path)
        seeds = sorted({seed for _, _, seed in found})
        lines += [
            f"{(task.load.__doc__ or '').rstrip('.')}; {task.layers} layers, d_model "
            f"{task.d_model}; {task.before} epochs before reduction, {task.after} after it (`a`: "
            f"{task.before + task.after}); seeds: {', '.join(map(str, seeds))}; "
            f"{seconds(path) / 60:.0f} minutes of one shared core.\n",
            *table(found), "", *claims(task, found), "", f"![{name}](paper/{name}.png)\n",
        ]  # fmt: skip
        draw(name, found, folder)
    lines.append("## Are more accurate originals better afterwards?\n")
    path = results / "correlation.csv"
    lines += correlation(path, folder) if path.exists() else ["Not measured."]
    (ROOT / "docs" / "paper.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
