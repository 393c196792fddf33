"""The colours of all pages and figures: each once, on light ground and on dark."""

from __future__ import annotations

_LIGHT = {
    "ground": "#f5f6f7", "card": "#fefefe", "chosen": "#eef3f8", "shade": "#c8402e22",
    "ink": "#24292e", "muted": "#5d6670", "faint": "#dfe3e7",
    "before": "#a9b2bb", "after": "#1f5fa8", "mark": "#c8402e",
}  # fmt: skip
_DARK = {
    "ground": "#14171a", "card": "#1d2125", "chosen": "#28323c", "shade": "#f0836f2e",
    "ink": "#dfe3e7", "muted": "#98a2ac", "faint": "#343a40",
    "before": "#78838e", "after": "#6db3f7", "mark": "#f0836f",
}  # fmt: skip
# Of models beside each other, on light and on dark; more models than these take turns.
_SERIES = (
    ("#1f5fa8", "#6db3f7"), ("#b25a00", "#f0a35e"), ("#0b7a67", "#4fc9b0"),
    ("#7d4bb5", "#c49bf0"), ("#b3266b", "#f084b8"), ("#66700a", "#c6c95a"),
)  # fmt: skip
SERIES = len(_SERIES)

CARD, INK, MUTED, FAINT = (_LIGHT[name] for name in ("card", "ink", "muted", "faint"))
BEFORE, AFTER, MARK = (_LIGHT[name] for name in ("before", "after", "mark"))
# What figures are drawn with, by the style sheet's variable that takes each one's place.
DRAWN = {
    name: _LIGHT[name] for name in ("card", "ink", "muted", "faint", "before", "after", "mark")
}
# In pixels no variable is heard: these are legible on light and on dark.
BEFORE_PIXELS, AFTER_PIXELS = "#8b96a1", "#3480cc"


def style() -> str:
    """The colours as variables of a style sheet, and a class for each model's."""
    light, dark = (
        {**named, **{f"series-{index}": pair[at] for index, pair in enumerate(_SERIES)}}
        for at, named in enumerate((_LIGHT, _DARK))
    )
    models = " ".join(f".s{index} {{ color: var(--series-{index}); }}" for index in range(SERIES))
    return (
        f":root {{ color-scheme: light dark; {_variables(light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}\n"
        f"{models}\n"
    )


def _variables(colors: dict[str, str]) -> str:
    return " ".join(f"--{name}: {color};" for name, color in colors.items())
