"""What is drawn: random configurations of upstream's classes, by seed and without upstream."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]
Options = Mapping[str, Sequence[Any]]

LENGTHS = (16, 32, 33, 64)
# How a model is given to s4edge.
WAYS = ("sidecar", "blind", "lightning")

_ACTIVATIONS: Config = {
    "v4": [None, "id", "identity", "linear", "none", "tanh", "relu", "gelu", "elu", "swish", "silu",
           "sigmoid", "softplus", "sqrelu", "relu2", "laplace"],
    "standalone": [None, "id", "identity", "linear", "tanh", "relu", "gelu", "elu", "swish", "silu",
                   "sigmoid", "softplus"],
    "v3": [None, "id", "identity", "linear", "tanh", "relu", "gelu", "swish", "silu", "sigmoid",
           "sqrelu"],
    "v2": [None, "id", "identity", "linear", "tanh", "relu", "gelu", "swish", "silu", "sigmoid"],
}  # fmt: skip
_GATED: Config = {
    "v4": ["glu", "glu-gelu", "glu-silu", "glu-tanh", "glu-relu", "glu-id", "glu-softplus"],
    "standalone": ["glu"],
    "v3": ["glu"],
    "v2": ["glu"],
}
_POSITIVE = ["none", "exp", "relu", "sigmoid", "softplus"]
_STEPS = [(0.001, 0.1), (0.01, 0.5), (0.05, 1.0), (0.001, 0.01)]
_DROPOUT: Options = {"dropout": [0.0, 0.1], "tie_dropout": [True, False]}
_INITIALIZERS: Options = {"initializer": ["uniform", "normal", "xavier"]}


# Initializations that take two states, too.
_FREE = ("diag", "diag-lin", "diag-inv", "diag-inv2", "diag-real", "diag-quad", "diag-rand", "dplr",
         "dplr-lin", "dplr-inv")  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One model to build, to save and to read.

    Attributes:
        version: of upstream.
        seed: of all that is random about it.
        kind: what class of model, in a word.
        cls: the class's name as a sidecar has it.
        config: the constructor's arguments; for whole models as a sidecar has them.
        length: of the input.
        way: one of `WAYS`.
        noise: what its parameters are moved by, relative to their spread.
        ran: a length at which it ran before it was saved, or None.
    """

    version: str
    seed: int
    kind: str
    cls: str
    config: Config
    length: int
    way: str
    noise: float
    ran: int | None

    @property
    def name(self) -> str:
        """Such as ``v4-seq-17``."""
        return f"{self.version}-{self.kind}-{self.seed}"


@dataclass
class _Pen:
    """What the drawing functions share."""

    random: random.Random
    version: str
    length: int
    config: Config = field(default_factory=dict)

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def few(self, options: Options) -> Config:
        """Some of the options: mostly a few, sometimes many."""
        chance = self.one(0.0, 0.1, 0.1, 0.2, 0.2, 0.5)
        return {key: self.one(*options[key]) for key in options if self.maybe(chance)}

    @property
    def family(self) -> str:
        """The version's, but version 2's for DSS, which is built on it."""
        return "v2" if self.version == "dss" else self.version

    def activation(self, *more: str, of: str = "") -> Any:
        return self.one(*_ACTIVATIONS[of or self.family], *more)

    def output(self, of: str = "") -> Any:
        """An activation after a linear layer, half of them gated."""
        gated = _GATED[of or self.family]
        return self.one(*gated) if self.maybe(0.5) else self.activation(of=of)

    def step_sizes(self) -> Config:
        smallest, largest = self.one(*_STEPS)
        return {"dt_min": smallest, "dt_max": largest}

    def width(self) -> int:
        return self.one(4, 4, 6, 8, 5, 3)


def draw(version: str, seed: int, way: str | None = None) -> Draw:
    """What the seed says, whether or not upstream can build it.

    Args:
        version: of upstream: ``v4``, ``v3``, ``v2`` or ``dss``.
        seed: any number.
        way: one of `WAYS` instead of a drawn one.
    """
    dice = random.Random(f"{version} {seed}")
    pen = _Pen(dice, version, dice.choice(LENGTHS))
    kinds = _KINDS[version]
    kind = dice.choice([kind for kind, (weight, _, _) in kinds.items() for _ in range(weight)])
    _, cls, make = kinds[kind]
    config = make(pen)
    drawn = pen.one("sidecar", "sidecar", "sidecar", "blind", "lightning" if kind == "full" else "")
    ran = pen.one(None, None, pen.length, pen.length // 2)
    return Draw(
        version, seed, kind, cls, config, pen.length, way or drawn or "sidecar",
        noise=pen.one(0.02, 0.1, 0.3), ran=ran,
    )  # fmt: skip


# Layers. Each function gives the options without d_model.


def _s4d(pen: _Pen) -> Config:
    return {"d_state": pen.one(2, 4, 8, 15, 16, 5)} | pen.few(
        {"dropout": [0.1], "lr": [0.0, 0.001], "dt_min": [0.001, 0.01], "dt_max": [0.1, 0.5]}
    )


def _learning_rates(*names: str) -> list[Any]:
    return [0.0, 0.001, None, {names[0]: 0.0}, dict.fromkeys(names, 0.001)]


def _kernel_v4(pen: _Pen, *, source: bool) -> Config:
    mode = pen.one("diag", "diag", "nplr")
    if source:
        mode = pen.one("diag", "diag", "diag", "s4d", "nplr", "nplr", "s4", "dplr", "dense", "slow",
                       "real")  # fmt: skip
        if pen.maybe(0.005):
            return {"mode": "conv", "l_max": pen.length}
    diagonal, low_rank = mode in ("diag", "s4d"), mode in ("nplr", "s4", "dplr")
    out: Config = {"mode": mode, "d_state": pen.one(2, 4, 8, 16)}
    if mode == "real":
        out["init"] = pen.one("legs", "lagt", "legt", "fout", "lmu")
    elif diagonal:
        out["init"] = pen.one("diag", "diag-lin", "diag-inv", "diag-inv2", "diag-legs", "diag-real",
                              "diag-quad", "diag-rand", "legs", "fout", "hippo")  # fmt: skip
    else:
        out["init"] = pen.one("legs", "legs", "fout", "hippo", "legt", "lagt", "dplr-lin", "dplr",
                              "dplr-inv", "dplr-legs")  # fmt: skip
    if out["init"] not in _FREE and out["d_state"] < 4:
        out["d_state"] = 4
    if out["init"] in ("legt", "lmu") and not diagonal and mode != "real":
        out["rank"] = 2
    elif low_rank and pen.maybe(0.2):
        out["rank"] = pen.one(1, 2, 3)
    out |= pen.few(
        {
            "dt_transform": _POSITIVE,
            "dt_tie": [False] if diagonal else [True],
            "n_ssm": [1, 2, 4, None],
            "lr": [*_learning_rates("dt", "A", "B"), {"A": 0.0}],
            "wd": [0.0, 0.05],
            "deterministic": [True, False],
            "l_max": [None, pen.length, pen.length // 2, 8, 2 * pen.length],
            "verbose": [False],
        }
    )
    if out["init"].startswith(("diag", "dplr")):
        out |= pen.few(
            {
                "real_random": [True],
                "imag_random": [True],
                "real_scale": [0.5, 2.0],
                "imag_scale": [0.5, 2.0],
                "B_init": ["constant", "random", "alternating", "unit-cw"],
                "B_scale": [2.0],
            }
        )
    if diagonal or low_rank:
        out |= pen.few(
            {
                "dt_fast": [True, False],
                "real_transform": _POSITIVE,
                "imag_transform": _POSITIVE,
                "bandlimit": [0.1, 0.5, 1.0, None],
                "backend": ["naive", "cuda"],
            }
        )
    if diagonal:
        out |= pen.few({"disc": ["zoh", "bilinear", "bilinear", "dss"]})
        if pen.maybe(0.05):
            out |= {"is_real": True, "init": "diag-real"}
    if out.get("deterministic"):
        out.pop("dt_tie", None)
        out.pop("dt_transform", None)
    return out | pen.step_sizes()


def _convolution_v4(pen: _Pen, *, source: bool) -> Config:
    out = _kernel_v4(pen, source=source)
    if source and pen.maybe(0.1):
        out["kernel"], out["mode"] = out["mode"], None
    return out | pen.few(
        {
            "channels": [1, 2, 3],
            "swap_channels": [True, False],
            "bidirectional": [True, False],
            "drop_kernel": [0.0, 0.1],
        }
    )


def _block_v4(pen: _Pen, *, source: bool) -> Config:
    out = _convolution_v4(pen, source=source)
    names = "v4" if source else "standalone"
    if pen.maybe(0.6):
        out["activation"] = pen.activation(*([] if source else _GATED[names]), of=names)
    if pen.maybe(0.6):
        out["final_act"] = pen.output(names)
        if out["final_act"] is not None and pen.maybe(0.1):
            out["postact"], out["final_act"] = out["final_act"], None
    if pen.maybe(0.15):
        out["mult_act"] = pen.activation(of=names)
    if source:
        out |= pen.few({"weight_norm": [True, False], "layer": ["fftconv"]} | _INITIALIZERS)
        if out.get("final_act", "glu") not in (None, "id", "linear", "relu", "tanh", "gelu"):
            out.pop("initializer", None)
    return out | pen.few(_DROPOUT)


def _kernel_v3(pen: _Pen, *, source: bool) -> Config:
    mode = pen.one(*["diag", "nplr"] * 6, *(("slow", "real") if source else ()))
    out: Config = {"mode": mode, "d_state": pen.one(4, 4, 8, 16)}
    if mode == "diag":
        out["measure"] = pen.one("diag", "diag-lin", "diag-inv", "diag-legs", "diag-real", "legs",
                                 "fourier", "hippo")  # fmt: skip
    else:
        out["measure"] = pen.one("legs", "legs", "fourier", "fout", "hippo", "legt", "lagt")
    if out["measure"] == "legt" and mode != "real":
        out["rank"] = 2
    out |= pen.few(
        {
            "n_ssm": [1, 2, 4, None],
            "lr": [0.001, {"dt": 0.0}] if mode != "diag" else _learning_rates("dt", "A", "B"),
            "l_max": [None, pen.length, pen.length // 2, 8],
            "verbose": [False],
        }
    )
    if mode in ("diag", "nplr"):
        out |= pen.few({"real_type": _POSITIVE, "bandlimit": [0.1, 0.5, 1.0, None]})
    if mode == "diag":
        out |= pen.few({"disc": ["zoh", "bilinear", "dss"]})
    return out | pen.step_sizes()


def _block_v3(pen: _Pen, *, source: bool) -> Config:
    out = _kernel_v3(pen, source=source) | pen.few(
        {
            "channels": [1, 2],
            "bidirectional": [True, False],
            "gate": [1, 2, None],
            "bottleneck": [2],
        }
    )
    if out.get("bottleneck") and pen.maybe(0.6):
        del out["bottleneck"]
    if pen.maybe(0.6):
        out["activation"] = pen.activation()
    if pen.maybe(0.6):
        out["postact"] = pen.output()
    if pen.maybe(0.15):
        out["hyper_act"] = pen.activation()
    if source:
        out |= pen.few(
            {"weight_norm": [True, False], "shift": [True, False], "linear": [False]}
            | _INITIALIZERS
        )
        if pen.maybe(0.06):
            out["linear"] = True
        if {out.get("postact", "glu"), out.get("activation", "gelu")} & {"glu", "sqrelu", "elu"}:
            out.pop("initializer", None)
    return out | pen.few(_DROPOUT)


def _block_v2(pen: _Pen, *, standalone: bool) -> Config:
    mode = "nplr" if standalone else pen.one(*["nplr"] * 28, "slow", "real")
    out: Config = {"d_state": pen.one(4, 4, 8, 16)}
    if mode != "nplr":
        out["mode"] = mode
    out["measure"] = pen.one("legs", "legs", "fourier", "legt", "lagt")
    if out["measure"] == "legt" and mode != "real":
        out["rank"] = 2
    out["l_max"] = pen.one(1, pen.length, pen.length, pen.length // 2, 2 * pen.length)
    if out["l_max"] == 33 and pen.maybe(0.9):
        out["l_max"] = 32  # of odd lengths upstream computes no right kernel
    if pen.maybe(0.1):
        del out["l_max"]
    out |= pen.few(
        {
            "rank": [out.get("rank", 1)],
            "channels": [1, 2],
            "bidirectional": [True, False],
            "trainable": [True, {"dt": True, "A": True, "P": True, "B": True}, {"A": False}],
            "lr": [0.001],
            "length_correction": [True, False],
            "tie_state": [True, False],
            "hurwitz": [True, False],
            "resample": [True, False],
            "dropout": [0.0, 0.1],
        }
    )
    if pen.maybe(0.6):
        out["activation"] = pen.activation()
    if pen.maybe(0.6):
        out["postact"] = pen.output()
    if pen.maybe(0.15):
        out["hyper_act"] = pen.activation()
    if standalone and out.get("postact") is None:
        out |= pen.few({"weight_norm": [True, False]} | _INITIALIZERS)
    return out | pen.step_sizes()


def _dss(pen: _Pen) -> Config:
    out: Config = {
        "d_state": pen.one(2, 4, 8, 16),
        "version": pen.one("softmax", "softmax", "exp", "exp-re-im", "exp-no-scale", "clip",
                           "clip-no-scale"),
    }  # fmt: skip
    out |= pen.few(
        {
            "Lambda_init": ["hippo_skew_pos_imag"]
            + (["randn"] if out["version"] in ("softmax", "clip") else []),
            "max_real_Lambda": [1e-4, 0.3, -0.1],
            "epsilon": [1e-7, 1e-4, 1e-2],
            "sep_dt_re_im": [True, False],
            "trainable": [{"Lambda": False}, {"log_dt": False}],
            "lr": [{"log_dt": 0.02}],
            "channels": [1, 2],
            "bidirectional": [True, False],
            "max_kernel_length": [8, pen.length // 2, pen.length, 2 * pen.length, None],
            "l_max": [1, pen.length],
            "weight_norm": [True, False],
            "dropout": [0.0, 0.1],
            "verbose": [False],
        }
    )
    if pen.maybe(0.6):
        out["activation"] = pen.activation()
    if pen.maybe(0.6):
        out["postact"] = pen.output()
    if pen.maybe(0.15):
        out["hyper_act"] = pen.activation()
    return out | pen.step_sizes()


def _feedforward(pen: _Pen) -> Config:
    new = pen.version == "v4"
    out: Config = {"_name_": "ffn" if new else "ff"}
    out |= pen.few(
        {
            "expand": [1, 2, 3, *([1.5] if new else [])],
            "activation": [*_ACTIVATIONS[pen.family], *_GATED[pen.family]],
            "dropout": [0.0, 0.1],
        }
    )
    if pen.version != "v2" and pen.version != "dss":
        out |= pen.few({"tie_dropout": [True, False]})
    return out


# Backbones.


def _layer_of_backbone(pen: _Pen) -> Config:
    if pen.version == "v4":
        name = pen.one("s4", "s4", "s4", "s4", "s4d", "standalone")
        make = {"s4": lambda: _block_v4(pen, source=True), "s4d": lambda: _s4d(pen),
                "standalone": lambda: _block_v4(pen, source=False)}  # fmt: skip
    elif pen.version == "v3":
        name = pen.one("s4", "s4", "s4", "s4d", "standalone")
        make = {"s4": lambda: _block_v3(pen, source=True), "s4d": lambda: _s4d(pen),
                "standalone": lambda: _block_v3(pen, source=False)}  # fmt: skip
    else:
        name = pen.one("s4", "s4", "standalone", *(["dss"] * 6 if pen.version == "dss" else []))
        make = {"s4": lambda: _block_v2(pen, standalone=False),
                "standalone": lambda: _block_v2(pen, standalone=True),
                "dss": lambda: _dss(pen)}  # fmt: skip
    return {"_name_": name} | make[name]()


def _norm(pen: _Pen, transposed: bool) -> Any:
    kind = pen.one(None, "none", "layer", "layer", "batch", "batch", "instance",
                   *(["group"] if pen.version in ("v3", "v4") else []))  # fmt: skip
    if kind in (None, "none") or pen.maybe(0.6):
        return kind
    eps = {"eps": [1e-5, 1e-3, 0.1]}
    more: Options
    if kind == "layer":
        more = {"scalar": [True, False]} if transposed else eps | {"elementwise_affine": [False]}
    elif kind == "group":
        more = eps | {"affine": [True, False]}
    else:
        more = eps | {
            "affine": [True, False],
            "track_running_stats": [True, False],
            "momentum": [0.1, 0.5, None],
        }
    return {"_name_": kind} | pen.few(more)


def _residual(pen: _Pen) -> Any:
    kind = pen.one("R", "R", "R", "R", None, "F", "N", "D", "A", "H", "none", "ff", "feedforward",
                   "residual", "highway", "decay", "affine")  # fmt: skip
    if kind is None or pen.maybe(0.6):
        return kind
    long = {"D": "decay", "A": "affine", "H": "highway", "R": "residual"}.get(kind, kind)
    more: Config = {
        "residual": {"alpha": [1.0, 0.5, 0.0], "beta": [1.0, 0.5]},
        "decay": {"power": [0.25, 0.5, 1.0], "l2": [True, False]},
        "affine": {"scalar": [True, False], "gamma": [0.0, 0.5], "alpha": [0.5], "beta": [2.0]},
        "highway": {"scaling_correction": [True, False], "elemwise": [True, False]},
    }
    return {"_name_": kind} | pen.few(more.get(long, {}))


def _pool(pen: _Pen, depth: int) -> Any:
    if pen.maybe(0.5):
        return None
    stride = 2 if depth <= 2 and pen.length % 4 == 0 and pen.maybe(0.5) else 1
    if pen.family == "v2":
        return {"_name_": "sample", "pool": stride, "expand": pen.one(1, 1, 1, 2)}
    kind = pen.one("pool", "pool", "avg", "sample", "sample", "linear")
    if pen.maybe(0.04):
        kind = "spectral"
    if pen.version == "v3" and kind in ("avg", "sample"):
        kind = "pool"
    out: Config = {"_name_": kind, "stride": stride}
    expand = pen.one(1, 1, 1, 2)
    if kind in ("pool", "avg") and pen.version == "v4":
        expand = pen.one(None, None, None, 1, 2)
    return out if pen.maybe(0.2) else out | {"expand": expand}


def _sequence_model(pen: _Pen) -> Config:
    layers = [_layer_of_backbone(pen)]
    if pen.maybe(0.35):
        layers.append(_feedforward(pen))
    if pen.maybe(0.1):
        layers.append(_layer_of_backbone(pen))
    if pen.maybe(0.04):
        layers.insert(0, {"_name_": "id"})
    if pen.maybe(0.1):
        pen.random.shuffle(layers)
    count = pen.one(1, 1, 2, 2, 3)
    transposed = pen.maybe(0.5)
    out: Config = {
        "d_model": pen.width(),
        "n_layers": count,
        "prenorm": pen.maybe(0.5),
        "transposed": transposed,
        "layer": layers if len(layers) > 1 or pen.maybe(0.05) else layers[0],
        "residual": _residual(pen),
        "norm": _norm(pen, transposed),
    }
    pool = _pool(pen, count * len(layers))
    if pool is not None or pen.maybe(0.5):
        out["pool"] = pool
    more: Config = {"dropout": [0.0, 0.1], "dropinp": [0.1], "track_norms": [True, False]}
    if pen.version in ("v3", "v4"):
        more |= {"tie_dropout": [True, False], "n_repeat": [1, 2]}
    if pen.version == "v4":
        more |= {"bidirectional": [True, False]}
    out |= pen.few(more)
    # What upstream takes as the default need not be written.
    for key, default in (("prenorm", True), ("transposed", False), ("residual", None),
                         ("norm", None), ("n_layers", 1)):  # fmt: skip
        if out[key] == default and pen.maybe(0.15):
            del out[key]
    return out


def _trained(pen: _Pen) -> Config:
    model = _sequence_model(pen)
    tokens = pen.maybe(0.4)
    encoder: Any = "embedding" if tokens else "linear"
    if pen.maybe(0.03):
        encoder = [encoder, "position"]
    elif pen.maybe(0.02):
        encoder = {"_name_": "conv1d", "kernel_size": pen.one(1, 3)}
        encoder |= {"stride": 1, "padding": 0} if pen.family == "v2" else {}
        tokens = False
    elif pen.maybe(0.05):
        encoder, tokens = pen.one("id", None), False
    elif pen.maybe(0.04):
        encoder, tokens = "onehot", True
    elif pen.maybe(0.1):
        encoder = {"_name_": encoder}
    d_input = model["d_model"] if encoder in ("id", None) else pen.one(1, 3) if not tokens else 7
    if encoder == "onehot":
        d_input = 3
    out: Config = {"encoder": encoder}
    l_output: Any = pen.one(0, 0, 0, None, None, 1, 2, 5)
    name = pen.one(*["sequence"] * 12, "retrieval", "retrieval", "id",
                   *([] if pen.family == "v2" else ["linear", "nd"]))  # fmt: skip
    if name == "sequence":
        decoder: Any = {"_name_": name, "mode": pen.one("pool", "pool", "last", "first", "sum")}
        decoder |= pen.few({"use_lengths": [True, False]})
        if pen.maybe(0.1):
            decoder = name
    elif name == "retrieval":
        decoder = {"_name_": name, "mode": pen.one("pool", "last", "first", "sum")} | pen.few(
            {
                "nli": [True, False],
                "activation": ["relu", "gelu"],
                "d_model": [6, None],
                "use_lengths": [True],
            }
        )
    elif name == "nd":
        decoder = {"_name_": name, "mode": pen.one("pool", "full")}
    else:
        decoder = name
    out |= {"decoder": decoder, "d_input": d_input, "d_output": pen.one(5, 2, 1),
            "l_output": l_output, "model": model}  # fmt: skip
    return out


def _example(pen: _Pen) -> Config:
    cls = {
        "v4": ("models.s4.s4d.S4D", "models.s4.s4.S4Block"),
        "v3": ("src.models.s4.s4d.S4D", "src.models.s4.s4.S4"),
        "v2": ("src.models.sequence.ss.standalone.s4.S4",) * 2,
        "dss": ("src.models.sequence.ss.standalone.dss.DSS",) * 2,
    }[pen.version][pen.one(0, 1)]
    name = cls.rpartition(".")[2]
    make = {
        "S4D": _s4d,
        "S4Block": lambda pen: _block_v4(pen, source=False),
        "DSS": _dss,
        "S4": lambda pen: (
            _block_v3(pen, source=False) if pen.version == "v3" else _block_v2(pen, standalone=True)
        ),
    }[name]
    options = make(pen)
    for key in ("transposed", "dropout"):
        options.pop(key, None)
    return {
        "d_input": pen.one(1, 3),
        "d_output": pen.one(5, 2),
        "d_model": pen.width(),
        "n_layers": pen.one(1, 2),
        "prenorm": pen.maybe(0.5),
        "layer": cls,
        "layer_kwargs": options,
    }


def _alone(make: Any) -> Any:
    """A layer as a model of its own."""

    def options(pen: _Pen) -> Config:
        out = {"d_model": pen.width()} | make(pen)
        if pen.maybe(0.5):
            out["transposed"] = pen.maybe(0.5)
        return out

    return options


_TRAINER = "train.SequenceLightningModule(encoder, model, decoder)"
# By version and kind: how often, the class, and what draws its configuration.
_KINDS: dict[str, dict[str, tuple[int, str, Any]]] = {
    "v4": {
        "standalone": (3, "models.s4.s4.S4Block", _alone(lambda p: _block_v4(p, source=False))),
        "srcblk": (
            3,
            "src.models.sequence.modules.s4block.S4Block",
            _alone(lambda p: _block_v4(p, source=True)),
        ),
        "s4d": (1, "models.s4.s4d.S4D", _alone(_s4d)),
        "example": (2, "example.S4Model", _example),
        "seq": (5, "src.models.sequence.backbones.model.SequenceModel", _sequence_model),
        "full": (5, _TRAINER, _trained),
    },
    "v3": {
        "s4": (2, "v3.0.0:src.models.s4.s4.S4", _alone(lambda p: _block_v3(p, source=False))),
        "srcs4": (
            2,
            "v3.0.0:src.models.sequence.ss.s4.S4",
            _alone(lambda p: _block_v3(p, source=True)),
        ),
        "example": (1, "example.S4Model", _example),
        "seq": (3, "src.models.sequence.SequenceModel", _sequence_model),
        "full": (3, _TRAINER, _trained),
    },
    "v2": {
        "s4": (
            2,
            "v2:src.models.sequence.ss.s4.S4",
            _alone(lambda p: _block_v2(p, standalone=False)),
        ),
        "standalone": (
            1,
            "v2:src.models.sequence.ss.standalone.s4.S4",
            _alone(lambda p: _block_v2(p, standalone=True)),
        ),
        "example": (1, "example.S4Model", _example),
        "seq": (3, "src.models.sequence.SequenceModel", _sequence_model),
        "full": (3, _TRAINER, _trained),
    },
    "dss": {
        "dss": (4, "dss.DSS", _alone(_dss)),
        "example": (1, "example.S4Model", _example),
        "seq": (3, "src.models.sequence.SequenceModel", _sequence_model),
        "full": (3, _TRAINER, _trained),
    },
}
