"""The functions of the C files against double precision: sampled, and over all floats (slow)."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from s4edge.export.c.kernels import kernels
from s4edge.export.lowering.reference import FUNCTIONS
from s4edge.model.activations import ELEMENTWISE, LAPLACE_DEVIATION, LAPLACE_MEAN

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")

# Units in the last place that a result may be off. Of gelu in those of x, of laplace in those of
# a half, as single precision computes them anywhere: their left tails are a difference.
UNITS = {
    "identity": 0.0, "relu": 0.0, "sqrelu": 0.5, "elu": 1.5, "silu": 3.0, "sigmoid": 3.0,
    "softplus": 5.5, "tanh": 3.0, "gelu": 4.0, "laplace": 4.0, "erf": 7.0,
}  # fmt: skip
# What is smaller may come out as anything that is.
SMALLEST = 1e-35
EXACT: dict[str, Any] = {**FUNCTIONS, "erf": erf}
VARIANTS = (
    "-O2", "-O2 -mavx2 -mfma -ffp-contract=fast", "-O2 -mavx512f -ffp-contract=fast",
    "-O2 -DS4EDGE_PLAIN", "-O2 -DS4EDGE_LIBM",
)  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS)
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = request.param.split()
    if not {each.removeprefix("-m") for each in options if each.startswith("-m")} <= set(
        Path("/proc/cpuinfo").read_text().split()
    ):
        pytest.skip("this processor has no such instructions")
    folder = tmp_path_factory.mktemp("functions")
    text = kernels((), [name for name in UNITS if name != "erf"])
    text = f"#include <math.h>\n#include <string.h>\n{text}\nFEATURES(erf)\n"
    text += "".join(f"void c_{n}(float *x, int n) {{ each_{n}(x, n); }}\n" for n in UNITS)
    text += f"#define MEAN {LAPLACE_MEAN!r}\n#define DEVIATION {LAPLACE_DEVIATION!r}\n"
    text += Path(__file__).with_name("all_floats.c").read_text()
    sizes = {"gelu": "of_x", "laplace": "of_half"}
    text += "".join(f"ALL({name}, {sizes.get(name, 'of_result')})\n" for name in UNITS)
    (folder / "f.c").write_text(text)
    command = ["gcc", *options, "-shared", "-fPIC", "f.c", "-o", "f.so", "-lm"]
    subprocess.run(command, check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "f.so"))


def units_off(functions: Any, name: str, x: np.ndarray) -> float:
    """The largest, over finite x."""
    got = x.copy()
    getattr(functions, f"c_{name}")(ctypes.c_void_p(got.ctypes.data), len(got))
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        size = {"gelu": np.abs(x), "laplace": np.float32(0.5)}.get(name)
        size = np.abs(exact).astype(np.float32) if size is None else size
        unit = np.spacing(np.maximum(size, np.float32(2**-126))).astype(np.float64)
        off = np.abs(got - exact) / unit
    small = (np.abs(exact) < SMALLEST) & (np.abs(got) < SMALLEST)
    off[small | (got == exact.astype(np.float32))] = 0
    return float(off.max(initial=0))


def every(step: int) -> Iterator[np.ndarray]:
    """Finite floats, every so manieth of all, in pieces."""
    piece = step * 2**22
    for start in range(0, 2**32, piece):
        bits = np.arange(start, min(start + piece, 2**32), step, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        x = x[np.isfinite(x)]
        yield np.ascontiguousarray(np.concatenate([x, np.zeros(-len(x) % 8, np.float32)]))


def test_every_activation_is_among_them() -> None:
    assert UNITS.keys() - {"erf"} == ELEMENTWISE.keys()


@pytest.mark.parametrize("name", UNITS)
def test_a_few_units_in_the_last_place(functions: Any, name: str) -> None:
    dense = np.linspace(-20, 20, 2**19, dtype=np.float32)
    assert units_off(functions, name, dense) <= UNITS[name]
    for x in every(4099):
        assert units_off(functions, name, x) <= UNITS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_all_floats(functions: Any, name: str) -> None:
    over_all = getattr(functions, f"all_{name}")
    over_all.restype, over_all.argtypes = ctypes.c_double, [ctypes.c_double]
    found = over_all(SMALLEST)
    print(f"{name}: {found:.3f} units in the last place over all floats")
    assert found <= UNITS[name]


@pytest.mark.parametrize("name", UNITS)
def test_nan_and_infinities(functions: Any, name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, np.nan, np.nan, np.nan], np.float32)
    got = x.copy()
    getattr(functions, f"c_{name}")(ctypes.c_void_p(got.ctypes.data), len(got))
    assert np.isnan(got[[0, 5, 6, 7]]).all()
    with np.errstate(all="ignore"):
        exact = EXACT[name](x[3:5].astype(np.float64))
    np.testing.assert_allclose(got[3:5], exact, atol=1e-7)
    ends = {
        "identity": (np.inf, -np.inf), "relu": (np.inf, 0), "sqrelu": (np.inf, 0),
        "elu": (np.inf, -1), "sigmoid": (1, 0), "softplus": (np.inf, 0), "tanh": (1, -1),
        "laplace": (1, 0), "erf": (1, -1),
    }  # fmt: skip
    if name in ends:
        np.testing.assert_allclose(got[1:3], ends[name], atol=1e-35)
