"""Random models through everything, for as long as you like.

    python tools/random_models.py                          # every property, 200 models each
    python tools/random_models.py --minutes 30 --seed 7    # round after round, each with a new seed
    python tools/random_models.py graph compress --examples 1000
    python tools/random_models.py --list

Properties and models are those of ``tests/random_models``, where the test suite tries few of them.
A round is reproduced by its seed and its number of examples, both printed with a failure; the
model that fails is reported as small as hypothesis can make it (``--no-shrink``: as it was drawn,
at once), as the code that builds it. Exit status 1 where something failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("random_models", "checkpoints")]

from properties import PROPERTIES  # noqa: E402


def try_property(name: str, examples: int, number: int, shrink: bool) -> tuple[int, str | None]:
    """Models tried, and what failed, if anything did."""
    held = 0
    found = PROPERTIES[name]
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]

    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=phases,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(found.drawn)
    def holds(drawn: Any) -> None:
        nonlocal held
        found.check(drawn)
        held += 1

    try:
        holds()
    except Exception as error:
        lines = traceback.format_exception(error)
        return held, "".join(lines)
    return held, None


def main() -> int:
    """Run rounds until the time or the examples are over."""
    parser = argparse.ArgumentParser(description="random models through everything")
    parser.add_argument("names", nargs="*", metavar="PROPERTY", help="which; all without it")
    parser.add_argument("--examples", type=int, default=200, help="models of a round, each")
    parser.add_argument("--minutes", type=float, help="go on with new seeds for so long")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--list", action="store_true", help="say which properties there are")
    arguments = parser.parse_args()
    if arguments.list:
        for name, each in PROPERTIES.items():
            print(f"{name}: {(each.check.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = set(arguments.names) - set(PROPERTIES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} unknown; known: {', '.join(PROPERTIES)}")
    started, number, failed = time.monotonic(), arguments.seed, 0
    tried = dict.fromkeys(arguments.names or PROPERTIES, 0)
    while True:
        for name in tried:
            held, failure = try_property(name, arguments.examples, number, arguments.shrink)
            tried[name] += held
            if failure is not None:
                failed += 1
                print(f"FAILED: {name}, --seed {number} --examples {arguments.examples}")
                print(failure, flush=True)
        number += 1
        if time.monotonic() - started >= 60 * (arguments.minutes or 0):
            break
    seconds = time.monotonic() - started
    held_by = ", ".join(f"{name} {count}" for name, count in tried.items())
    print(f"held: {held_by}; failures: {failed}; {seconds:.0f} s, seeds from {arguments.seed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
