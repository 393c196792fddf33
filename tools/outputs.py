"""Hashes of every kind of file and answer that the commands write, to compare two states of code.

    python tools/outputs.py FOLDER -o BEFORE.json         # in one state of the code
    python tools/outputs.py FOLDER --against BEFORE.json  # in the other

Writes into FOLDER the shipped examples reduced with every method, calibrated, allocated, trained,
and exported in every mode and precision. Hashes leave out what differs from run to run: durations,
versions and folders.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
METHODS = (
    "balanced", "singular-perturbation", "modal", "h2", "hankel", "finite-horizon", "shared-modes",
    "complex-balanced",
)  # fmt: skip
MODES = {"step": ("--mode", "step"), "chunk": ("--chunk", "16"), "sequence": ("--mode", "sequence")}
# Keys of JSON answers and metadata that differ from run to run.
VARYING = {"seconds", "version"}


def commands() -> Iterator[tuple[str, list[str], str | None]]:
    """What to run: a name, the command's arguments, the file that it writes."""
    digits = str(EXAMPLES / "digits" / "model.pt")
    spoken = str(EXAMPLES / "spoken_digits" / "model.safetensors")
    train, test = "digits-train.npz", "digits-test.npz"
    calibrated = ["--calibrate", train]
    yield "inspect digits", ["inspect", digits], None
    yield "inspect spoken digits", ["inspect", spoken], None
    for method in METHODS:
        arguments = ["compress", digits, "--state", "8", "--method", method]
        yield f"compress {method}", arguments, f"{method}.safetensors"
    upstream = ["compress", digits, "--state", "8", "--format", "upstream"]
    yield "compress to upstream", upstream, "upstream.pt"
    compress = ["compress", digits, "--state", "8", *calibrated]
    yield "compress calibrated", compress, "calibrated.safetensors"
    compress = ["compress", digits, "--state", "4", *calibrated, "--allocate", "sensitivity"]
    yield "compress allocated", compress, "allocated.safetensors"
    yield "eval checkpoint", ["eval", digits, "--data", test], None
    yield "sweep", ["sweep", digits, "--states", "8,4", "--data", test], None
    train_on = ["finetune", "balanced.safetensors", "--data", train, "--epochs", "1"]
    yield "finetune", train_on, "finetuned.safetensors"
    for model in ("balanced", "allocated"):
        for mode, options in MODES.items():
            for precision in ("fp32", "fp16", "int8"):
                name = f"{model}-{mode}-{precision}"
                export = ["export", f"{model}.safetensors", "--onnx", *options]
                yield f"export {name}", [*export, "--precision", precision], f"{name}.onnx"
    yield "eval graph", ["eval", "balanced-step-fp32.onnx", "--data", test], None
    yield "export spoken digits", ["export", spoken, "--onnx"], "spoken.onnx"


def hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, hash) of every answer and every file."""
    data = [sys.executable, str(EXAMPLES / "digits" / "data.py"), str(folder)]
    subprocess.run(data, check=True, capture_output=True)
    for name, arguments, output in commands():
        command = [sys.executable, "-m", "s4edge", *arguments, "--json"]
        command += [] if output is None else ["-o", output]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        failed = done.returncode != 0
        yield f"{name}: answer", of_json(done.stderr if failed else json.loads(done.stdout))
        if output is not None and not failed:
            yield f"{name}: file", of_file(folder / output)


def of_file(path: Path) -> str:
    """The hash of a file's bytes; of a model file that of its numbers and of its description."""
    if path.suffix != ".safetensors":
        return _sha(path.read_bytes())
    with safe_open(path, "np") as file:
        description = {key: json.loads(value) for key, value in file.metadata().items()}
        numbers = {name: _sha(file.get_tensor(name).tobytes()) for name in sorted(file.keys())}
    return f"{of_json(numbers)}, description {of_json(description)}"


def of_json(value: Any) -> str:
    """The hash of what stays the same from run to run."""
    return _sha(json.dumps(_steady(value), sort_keys=True).encode())


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(each) for key, each in value.items() if key not in VARYING}
    if isinstance(value, list):
        return [_steady(each) for each in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> None:
    """Write, hash and compare."""
    parser = ArgumentParser(description="hashes of every kind of file and answer")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="write the hashes as JSON")
    parser.add_argument("--against", type=Path, help="compare with these")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = dict(hashes(options.folder.resolve()))
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.against is None:
        for name, content in found.items():
            print(f"{content}  {name}")
        return
    known: dict[str, str] = json.loads(options.against.read_text(encoding="utf-8"))
    names = list(dict.fromkeys([*known, *found]))
    differ = [name for name in names if known.get(name) != found.get(name)]
    print(f"{len(names) - len(differ)} of {len(names)} equal")
    for name in differ:
        print(f"differs: {name}")


if __name__ == "__main__":
    main()
