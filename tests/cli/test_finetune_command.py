"""``s4edge finetune`` as a process: its answer, a kill in the middle, two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints as tiny
import torch
from s4edge_command import SCRIPT, Outcome, call, call_process, snapshot
from safetensors.torch import load_file

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "s4d.pt", tiny.s4d())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 20, 1)).astype(np.float32)
    y = (x.mean(axis=(1, 2)) > 0).astype(np.int64)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    np.savez(tmp_path / "unlabelled.npz", x=x)
    return tmp_path


def tensors_equal(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def log_of(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answer(folder: Path) -> None:
    outcome = call(folder, "finetune", "s4d.pt", "--data", "data.npz", "--epochs", "2", "--json")
    assert outcome.status == 0, outcome
    answer = json.loads(outcome.stdout)
    assert answer["output"] == "s4d-ft.safetensors"
    assert answer["epochs"] == 2
    for key in ("state_size", "real_states", "parameters"):
        assert set(answer[key]) == {"before", "after"}
    assert {"name", "real_states_before", "real_states_after", "error", "error_bound"} <= set(
        answer["layers"][0]
    )
    assert {"layers", "seconds", "samples", "best_epoch", "validation_accuracy"} <= answer.keys()
    assert [layer["name"] for layer in answer["layers"]] == ["s4_layers.0", "s4_layers.1"]
    assert answer["seconds"] > 0
    assert [line["epoch"] for line in log_of(folder / "s4d-ft.safetensors.jsonl")] == [0, 1, 2]
    assert not (folder / "s4d-ft.safetensors.run").exists()
    told = call(folder, "inspect", "s4d-ft.safetensors", "--json")
    assert json.loads(told.stdout)["history"][-1]["did"] == "finetune"


def test_for_people(folder: Path) -> None:
    outcome = call(folder, "finetune", "s4d.pt", "--data", "data.npz", "--epochs", "1", "-v")
    assert outcome.status == 0, outcome
    assert "Next: s4edge export s4d-ft.safetensors --onnx" in outcome.stdout
    assert "epoch 1" in outcome.stderr


def test_killed_and_resumed_to_the_bit(folder: Path) -> None:
    training = ["finetune", "s4d.pt", "--data", "data.npz", "--epochs", "12", "--dropout", "0.1",
                "--hankel", "0.01"]  # fmt: skip
    whole = call(folder, *training, "-o", "whole.safetensors")
    assert whole.status == 0, whole
    log = folder / "cut.safetensors.jsonl"
    process = subprocess.Popen(
        [str(SCRIPT), *training, "-o", "cut.safetensors"], cwd=folder,
        env={**os.environ, **ONE_THREAD}, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (log.exists() and len(log_of(log)) > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "cut.safetensors").exists()
    resume = [*training, "-o", "cut.safetensors", "--resume"]
    resumed = call_process(folder, *resume, environment=ONE_THREAD)
    assert resumed.status == 0, resumed
    assert tensors_equal(folder / "whole.safetensors", folder / "cut.safetensors")
    logs = [log_of(folder / f"{name}.safetensors.jsonl") for name in ("whole", "cut")]
    for line in (*logs[0], *logs[1]):
        line.pop("seconds", None)
    assert logs[0] == logs[1]
    assert [line["epoch"] for line in logs[0]] == list(range(13))
    assert not (folder / "cut.safetensors.run").exists()


def test_two_processes_are_as_one(folder: Path) -> None:
    # 58 sequences in batches of 19: one process has none of the last.
    training = ["finetune", "s4d.pt", "--data", "data.npz", "--epochs", "3", "--dropout", "0.1",
                "--batch", "19", "--hankel", "0.1", "--schedule", "4"]  # fmt: skip
    one = call(folder, *training, "-o", "one.safetensors")
    assert one.status == 0, one
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "--no-python", str(SCRIPT), *training, "-o", "two.safetensors", "--json"],
        cwd=folder, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, Outcome(done.returncode, done.stdout, done.stderr)
    assert json.loads(done.stdout)["output"] == "two.safetensors"  # said once
    logs = [log_of(folder / f"{name}.safetensors.jsonl") for name in ("one", "two")]
    assert len(logs[0]) == 4
    for alone, shared in zip(*logs, strict=True):
        assert shared.keys() == alone.keys()
        for key in alone.keys() - {"seconds"}:
            assert shared[key] == pytest.approx(alone[key], rel=1e-5), key


def test_a_teacher_needs_no_labels(folder: Path) -> None:
    assert call(folder, "compress", "s4d.pt", "--state", "2").status == 0
    outcome = call(
        folder, "finetune", "s4d-s2.safetensors", "--data", "unlabelled.npz", "--teacher",
        "s4d.pt", "--epochs", "3", "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome
    log = log_of(folder / "s4d-s2-ft.safetensors.jsonl")
    assert log[-1]["validation_loss"] < log[0]["validation_loss"]
    assert "validation_accuracy" not in json.loads(outcome.stdout)


def test_reduced_on_the_way(folder: Path) -> None:
    outcome = call(
        folder, "finetune", "s4d.pt", "--data", "data.npz", "--epochs", "3", "--schedule", "4,2",
        "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome
    assert json.loads(outcome.stdout)["state_size"] == {"before": 8, "after": 2}


@pytest.mark.parametrize("distill", [[], ["--distill"]])
def test_compress_and_finetune(folder: Path, distill: list[str]) -> None:
    outcome = call(
        folder, "compress", "s4d.pt", "--state", "2", "--finetune", "data.npz", "--epochs", "2",
        "--json", *distill,
    )  # fmt: skip
    assert outcome.status == 0, outcome
    answer = json.loads(outcome.stdout)
    assert answer["finetune"]["epochs"] == 2
    told = json.loads(call(folder, "inspect", "s4d-s2.safetensors", "--json").stdout)
    assert [entry["did"] for entry in told["history"]] == ["compress", "finetune"]


FINETUNE = "finetune s4d.pt --data data.npz --epochs 1"
REFUSED = [
    ("finetune no.pt --data data.npz --epochs 1", "no.pt does not exist", 1),
    ("finetune s4d.pt --data no.npz --epochs 1", "the data no.npz does not exist", 1),
    ("finetune s4d.pt --data data.npz", "Missing option '--epochs'", 2),
    ("finetune s4d.pt --data data.npz --epochs 0", "epochs must be from 1", 1),
    ("finetune s4d.pt --data unlabelled.npz --epochs 1", "give labels, a teacher", 1),
    (f"{FINETUNE} --resume", "nothing to resume: s4d-ft.safetensors.run does not exist", 1),
    (f"{FINETUNE} --schedule 4,x", "is no list of state sizes", 1),
    (f"{FINETUNE} --schedule 4", "1 reductions need more than 1 epochs", 1),
    (f"{FINETUNE} --task next", "to predict the next sample", 1),
    (f"{FINETUNE} --task regression", "y has shape", 1),
    (f"{FINETUNE} --task sorting", "'sorting' is not one of", 2),
    (f"{FINETUNE} --dropout 1", "dropout must be from 0 to 0.95", 1),
    (f"{FINETUNE} --teacher no.pt", "no.pt does not exist", 1),
    (f"{FINETUNE} --validation no.npz", "the data no.npz does not exist", 1),
    ("finetune s4d.pt --epochs 1", "Missing option '--data'", 2),
    (f"{FINETUNE} --match-layers 1", "add --teacher MODEL", 1),
    (f"{FINETUNE} -o s4d.pt", "it is the model that is read", 1),
    (f"{FINETUNE} -o data.npz", "it is used here, too", 1),
    (f"{FINETUNE} --log s4d-ft.safetensors", "it is used here, too", 1),
    (f"{FINETUNE} -o no/out.safetensors", "the folder no does not exist", 1),
    ("compress s4d.pt --state 2 --finetune data.npz", "go together", 2),
    ("compress s4d.pt --state 2 --distill", "--distill is for --finetune", 2),
    ("compress s4d.pt --state 2 --finetune no.npz --epochs 1", "no.npz does not exist", 1),
]


@pytest.mark.parametrize(("arguments", "says", "status"), REFUSED)
def test_refused(folder: Path, arguments: str, says: str, status: int) -> None:
    before = snapshot(folder)
    outcome = call(folder, *arguments.split(), "--json")
    assert outcome.crash is None
    assert outcome.status == status, outcome
    assert says in outcome.last_line
    assert snapshot(folder) == before
