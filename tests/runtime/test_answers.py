"""Answers against the recurrence written out by hand, and step graphs against chunk graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_by_hand import random_model
from small_graph import D_INPUT, D_OUTPUT, Rotation, WriteGraph

import s4edge
from s4edge.errors import S4EdgeError
from s4edge.runtime import Answer, Graph, Source, StreamRun, open_graph, predict, run_stream

WIDTH = 2  # of random models


@pytest.fixture
def graph(write_graph: WriteGraph) -> Graph:
    return open_graph(write_graph())


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """A model that pools, as a step graph and in chunks of 16, and one of 40."""
    folder = tmp_path_factory.mktemp("pooled")
    model = random_model(pooling="mean")
    graphs = {}
    for name, chunk in (("step", None), ("chunk16", 16), ("chunk40", 40)):
        path = folder / f"{name}.onnx"
        s4edge.export_onnx(model, path, "chunk" if chunk else "step", chunk=chunk, rate=100)
        graphs[name] = open_graph(path)
    return graphs


def samples(count: int, width: int = D_INPUT, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def blocks(x: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """Of any size, also empty and long ones."""
    rng = np.random.default_rng(seed)
    while len(x):
        size = int(rng.choice([0, 1, 7, 16, 33, 700]))
        yield x[:size]
        x = x[size:]


def by_hand(x: np.ndarray) -> np.ndarray:
    return Rotation().outputs(x[:, None])[:, 0]


def numbers(answers: list[Answer]) -> list[int]:
    return [answer.sample for answer in answers]


def outputs(answers: list[Answer]) -> np.ndarray:
    return np.array([answer.y for answer in answers])


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(
        np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    )


def drained(run: StreamRun) -> tuple[list[Answer], BaseException | None]:
    """All answers, and what ended them."""
    answers: list[Answer] = []
    try:
        for answer in run:
            answers.append(answer)
    except (S4EdgeError, KeyboardInterrupt, SystemExit) as error:
        return answers, error
    return answers, None


def test_every_sample_is_answered(graph: Graph) -> None:
    x = samples(1500)
    run = run_stream(graph, blocks(x))
    answers = list(run)
    assert numbers(answers) == [*range(1, 1501)]
    assert close(outputs(answers), by_hand(x))
    assert (run.samples, run.last, run.warnings) == (1500, answers[-1], [])
    assert all(a.seconds is a.best is a.sequence is None and not a.end for a in answers)
    assert run.us_per_sample is not None
    assert run.us_per_sample > 0
    assert run.real_time_factor is None


@pytest.mark.parametrize("every", [1, 7, 400, 1500, 4000, None])
def test_some_samples_are_answered_and_the_last(graph: Graph, every: int | None) -> None:
    x = samples(1500)
    answers = list(run_stream(graph, blocks(x), every=every))
    wanted = [n for n in range(1, 1501) if n == 1500 or (every is not None and n % every == 0)]
    assert numbers(answers) == wanted
    assert close(outputs(answers), by_hand(x)[np.array(wanted) - 1])


@pytest.mark.parametrize("every", [1, 10, 16, 999, None])
@pytest.mark.parametrize(
    "options",
    [{}, {"reset": 50}, {"reset": 64}, {"reset": 7}, {"reset": 333, "pad": True}, {"take": 401},
     {"take": 100, "reset": 128, "pad": True}, {"reset": 1}],
    ids=str,
)  # fmt: skip
def test_step_and_chunk_graphs_answer_the_same(
    pooled: dict[str, Graph], every: int | None, options: dict[str, Any]
) -> None:
    x = samples(1000, WIDTH)
    step, *others = (
        list(run_stream(each, blocks(x, seed), every=every, rate=100, **options))
        for seed, each in enumerate(pooled.values())
    )
    for other in others:
        assert len(other) == len(step)
        for one, two in zip(step, other, strict=True):
            assert (one.sample, one.seconds, one.sequence, one.end) == (
                two.sample, two.seconds, two.sequence, two.end,
            )  # fmt: skip
        assert np.abs(outputs(step) - outputs(other)).max() < 1e-4 * np.abs(outputs(step)).max()


def test_an_answer_is_what_the_model_says_of_the_samples_so_far(pooled: dict[str, Graph]) -> None:
    x = samples(100, WIDTH)
    answers = list(run_stream(pooled["step"], blocks(x), every=30))
    lengths = np.array(numbers(answers))
    assert lengths.tolist() == [30, 60, 90, 100]
    wanted = predict(pooled["step"], np.tile(x, (4, 1, 1)), lengths)
    assert close(outputs(answers), wanted)
    assert [answer.best for answer in answers] == wanted.argmax(axis=1).tolist()


def test_sequences_follow_each_other(pooled: dict[str, Graph]) -> None:
    x = samples(250, WIDTH)
    padded = np.concatenate([x, np.zeros((50, WIDTH), np.float32)]).reshape(3, 100, WIDTH)
    for each in pooled.values():
        answers = list(run_stream(each, blocks(x), every=None, reset=100, pad=True))
        assert [(a.sample, a.sequence, a.end) for a in answers] == [
            (100, 1, True), (200, 2, True), (250, 3, True)
        ]  # fmt: skip
        assert close(outputs(answers), predict(each, padded))
        cut = list(run_stream(each, blocks(x), every=None, reset=100))
        assert [(a.sample, a.sequence, a.end) for a in cut[2:]] == [(250, 3, False)]
        assert close(outputs(cut[2:]), predict(each, x[None, 200:]))


def test_samples_are_scaled(graph: Graph) -> None:
    x = samples(20)
    answers = list(run_stream(graph, blocks(x), scale=-3, offset=0.5))
    assert close(outputs(answers), by_hand(-3 * x + 0.5))
    whole = np.arange(60).reshape(20, 3)
    found = list(run_stream(graph, [whole.astype(np.int16)], scale=1 / 64))
    assert close(outputs(found), by_hand(whole / 64))


BAD = {5: np.nan, 17: np.inf, 700: -np.inf}


def with_bad(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    for row, value in BAD.items():
        x[row, row % D_INPUT] = value
    return x


def test_nan_is_an_error_after_what_came_before(graph: Graph) -> None:
    x = with_bad(samples(900))
    answers, error = drained(run_stream(graph, blocks(x)))
    assert numbers(answers) == [1, 2, 3, 4, 5]
    assert close(outputs(answers), by_hand(x[:5]))
    assert str(error) == (
        "sample 6 of the input is nan; go on past such samples with --on-nan skip or --on-nan zero"
    )
    # The last answer before it is given, whatever `every` asks for; a padded end is not made up.
    answers, error = drained(run_stream(graph, blocks(x), every=3, rate=10, reset=9, pad=True))
    assert [(a.sample, a.end) for a in answers] == [(3, False), (5, False)]
    assert "sample 6 of the input is nan (at 0.5 s)" in str(error)


def test_nan_is_skipped(graph: Graph) -> None:
    x = with_bad(samples(900))
    run = run_stream(graph, blocks(x), on_nan="skip")
    answers = list(run)
    kept = [row for row in range(900) if row not in BAD]
    assert numbers(answers) == [row + 1 for row in kept]
    assert close(outputs(answers), by_hand(x[kept]))
    assert run.samples == 900
    assert run.warnings == [
        "the input: 3 samples were NaN or infinite and skipped, the first is sample 6"
    ]
    # In place of an answer that falls away, the next one.
    assert numbers(list(run_stream(graph, blocks(x), on_nan="skip", every=6)))[:4] == [
        7,
        12,
        19,
        24,
    ]


def test_nan_is_zero(graph: Graph) -> None:
    x = with_bad(samples(900))
    run = run_stream(graph, blocks(x), on_nan="zero")
    wanted = by_hand(np.where(np.isfinite(x), x, 0))
    assert close(outputs(list(run)), wanted)
    assert "3 samples were NaN or infinite and taken as zero" in run.warnings[0]


def test_what_float32_cannot_hold_is_infinite(graph: Graph) -> None:
    _, error = drained(run_stream(graph, [np.full((3, 3), 1e300)]))
    assert "sample 1 of the input is inf" in str(error)


def test_outputs_that_are_not_finite(graph: Graph) -> None:
    x = samples(20)
    x[10] = 3e38 * np.sign(Rotation().D[:, 0])
    answers, error = drained(run_stream(graph, [x]))
    assert numbers(answers) == [*range(1, 11)]
    assert "after sample 11 of the input is NaN or infinite" in str(error)


def test_tokens(write_graph: WriteGraph) -> None:
    rotation = Rotation()
    graph = open_graph(write_graph(tokens=9))
    assert rotation.D.shape[0] == graph.info.d_input  # a graph by hand: three tokens at a time
    x = np.random.default_rng(0).integers(0, 9, (50, D_INPUT))
    assert close(outputs(list(run_stream(graph, blocks(x)))), by_hand(x))
    for wrong in (9, -1):
        x[30] = wrong
        answers, error = drained(run_stream(graph, blocks(x)))
        assert len(answers) == 30
        assert f"sample 31 of the input is {wrong}, " in str(error)
        assert str(error).endswith("takes whole tokens from 0 to 8")
    _, error = drained(run_stream(graph, [np.full((2, 3), 1.5)]))
    assert "sample 1 of the input is 1.5" in str(error)
    _, error = drained(run_stream(graph, [np.full((2, 3), np.nan)]))
    assert "sample 1 of the input is nan" in str(error)
    for options in ({"scale": 2.0}, {"offset": 1.0}, {"pad": True, "reset": 5}):
        with pytest.raises(S4EdgeError, match="takes tokens, which are not scaled"):
            run_stream(graph, [], **options)  # type: ignore[arg-type]


def test_a_model_of_one_length_starts_over(write_graph: WriteGraph) -> None:
    graph = open_graph(write_graph(length=40))
    x = samples(100)
    run = run_stream(graph, blocks(x), every=None)
    answers = list(run)
    assert numbers(answers) == [40, 80, 100]
    wanted = [by_hand(x[start : start + 40])[-1] for start in (0, 40, 80)]
    assert close(outputs(answers), np.array(wanted))
    assert [answer.end for answer in answers] == [True, True, False]
    assert "the last sequence has 20 samples" in run.warnings[0]
    assert "exact for sequences of 40 only" in run.warnings[0]
    run = run_stream(graph, blocks(x[:80]))
    assert len(list(run)) == 80
    assert run.warnings == []
    with pytest.raises(S4EdgeError, match="exact for sequences of 40 samples only"):
        run_stream(graph, [], reset=20)


def test_past_what_is_exact_it_warns(write_graph: WriteGraph) -> None:
    graph = open_graph(write_graph(exact_samples=30))
    x = samples(31)
    run = run_stream(graph, blocks(x))
    list(run)
    assert len(run.warnings) == 1
    assert "exact for the first 30 samples of a sequence" in run.warnings[0]
    for fine in (run_stream(graph, blocks(x[:30])), run_stream(graph, blocks(x), reset=30)):
        list(fine)
        assert fine.warnings == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143), S4EdgeError("broken")])
def test_what_came_before_a_stop_is_answered(pooled: dict[str, Graph], stop: BaseException) -> None:
    x = samples(100, WIDTH)

    def stopped() -> Iterator[np.ndarray]:
        yield x[:77]
        raise stop

    for each in pooled.values():
        answers, error = drained(run_stream(each, stopped(), every=50))
        assert error is stop
        assert numbers(answers) == [50, 77]
        wanted = predict(each, np.tile(x, (2, 1, 1)), np.array([50, 77]))
        assert close(outputs(answers), wanted)


def test_ctrl_c_in_the_middle_of_a_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers before it stand."""
    run = run_stream(graph, iter([samples(30), samples(30, seed=1)]), every=20)
    extend = run._stream.extend
    calls = []

    def torn(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return extend(x)

    monkeypatch.setattr(run._stream, "extend", torn)
    answers, error = drained(run)
    assert isinstance(error, KeyboardInterrupt)
    assert numbers(answers) == [20, 30]
    assert close(outputs(answers), by_hand(samples(30))[[19, 29]])


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(MemoryError(), "out of memory"), (RuntimeError("bad allocation\nat"), "bad allocation")],
)
def test_a_run_that_fails(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    """As where memory is limited; what came before stands."""
    run = run_stream(graph, iter([samples(30), samples(30, seed=1)]), every=20)
    extend, calls = run._stream.extend, iter([None, failure])

    def failing(x: np.ndarray) -> np.ndarray:
        error = next(calls)
        if error is not None:
            raise error
        return extend(x)

    monkeypatch.setattr(run._stream, "extend", failing)
    answers, error = drained(run)
    assert numbers(answers) == [20, 30]
    assert str(error).endswith(f"failed after sample 30 of the input ({reason})")


def test_no_sample(graph: Graph) -> None:
    for nothing in ([], [samples(0)]):
        _, error = drained(run_stream(graph, nothing))
        assert str(error) == "the input holds no sample"


@pytest.mark.parametrize(
    "block", [np.zeros((5, 2)), np.zeros(5), np.zeros((5, 3), complex), np.array([["a"] * 3])]
)
def test_blocks_that_do_not_fit(graph: Graph, block: np.ndarray) -> None:
    answers, error = drained(run_stream(graph, [samples(4), block]))
    assert isinstance(error, S4EdgeError)
    assert len(answers) == 4
    assert "takes" in str(error)


def test_arguments_that_do_not_fit(graph: Graph) -> None:
    for options, says in (
        ({"every": 0}, "every must be at least 1 sample"),
        ({"reset": 0}, "reset must be at least 1 sample"),
        ({"take": 0}, "take must be at least 1 sample"),
        ({"on_nan": "ignore"}, "on_nan must be error, skip, zero"),
        ({"pad": True}, "say how long one is with reset"),
    ):
        with pytest.raises(S4EdgeError, match=says):
            run_stream(graph, [], **options)  # type: ignore[arg-type]


def test_take_waits_for_no_more(graph: Graph) -> None:
    def source() -> Iterator[np.ndarray]:
        yield samples(10)
        raise AssertionError("was asked for more")

    assert numbers(list(run_stream(graph, source(), take=10, every=4))) == [4, 8, 10]


def test_from_a_file_in_python(graph: Graph, tmp_path: Path) -> None:
    x = samples(40)
    np.save(tmp_path / "x.npy", x)
    answers = list(run_stream(graph, tmp_path / "x.npy", rate=20, every=10))
    assert [answer.seconds for answer in answers] == [0.5, 1, 1.5, 2]
    assert close(outputs(answers), by_hand(x)[9::10])


def test_factor_and_warnings(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks a millisecond at every look."""
    ticks = iter(range(0, 10**12, 10**6))
    monkeypatch.setattr("s4edge.runtime.answers.time.perf_counter_ns", lambda: next(ticks))
    source = Source("a.wav", lambda: iter([samples(10)]), rate=50.0, warnings=["of the source"])
    run = run_stream(graph, source)
    list(run)
    # One tick in the stream for ten samples, one at the end.
    assert run.us_per_sample == pytest.approx(200)
    assert run.real_time_factor == pytest.approx(0.01)
    assert run.warnings == ["of the source"]
    ticks = iter(range(0, 10**14, 10**10))
    for count, warned in ((10, True), (9, False)):
        source = Source("a.wav", lambda size=count: iter([samples(size)]), rate=10.0)
        run = run_stream(graph, source)
        list(run)
        assert run.real_time_factor == pytest.approx(20 / count * 10)
        assert [w.partition(" (")[0] for w in run.warnings] == warned * [
            "the graph is slower than the signal"
        ]


def test_json_gives_the_same_floats_back() -> None:
    y = np.random.default_rng(0).standard_normal(200).astype(np.float32) * 10.0 ** np.arange(
        -20, 20, 0.2, np.float32
    )
    answer = Answer(8000, y.astype(np.float32), 2.0, 1, 3, True)
    line = json.dumps(answer.to_json([str(n) for n in range(200)]), allow_nan=False)
    found = json.loads(line)
    assert np.array_equal(np.float32(found.pop("y")), answer.y)
    assert found == {
        "sample": 8000, "seconds": 2.0, "sequence": 3, "end": True, "class": 1, "label": "1",
    }  # fmt: skip
    assert Answer(1, y[:1]).to_json() == {"sample": 1, "y": [float(str(y[0]))]}


def test_classes(graph: Graph, pooled: dict[str, Graph]) -> None:
    assert [a.best for a in run_stream(graph, [samples(3)])] == [None] * 3
    answers = list(run_stream(graph, [samples(3)], classes=True))
    assert [a.best for a in answers] == by_hand(samples(3)).argmax(axis=1).tolist()
    assert D_OUTPUT == 4
    answers = list(run_stream(pooled["step"], [samples(3, WIDTH)], classes=False))
    assert [a.best for a in answers] == [None] * 3
