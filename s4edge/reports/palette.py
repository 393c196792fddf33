"""The colours of all pages and figures: each once, on light ground and on dark."""

from __future__ import annotations

_COLORS = {
    "ground": ("#f5f6f7", "#14171a"), "card": ("#fefefe", "#1d2125"),
    "chosen": ("#eef3f8", "#28323c"), "shade": ("#c8402e22", "#f0836f2e"),
    "ink": ("#24292e", "#dfe3e7"), "muted": ("#5d6670", "#98a2ac"), "faint": ("#dfe3e7", "#343a40"),
    "before": ("#a9b2bb", "#78838e"), "after": ("#1f5fa8", "#6db3f7"),
    "mark": ("#c8402e", "#f0836f"),
    # Of models beside each other; more models than these take turns.
    "series-0": ("#1f5fa8", "#6db3f7"), "series-1": ("#b25a00", "#f0a35e"),
    "series-2": ("#0b7a67", "#4fc9b0"), "series-3": ("#7d4bb5", "#c49bf0"),
    "series-4": ("#b3266b", "#f084b8"), "series-5": ("#66700a", "#c6c95a"),
}  # fmt: skip
SERIES = sum(name.startswith("series-") for name in _COLORS)

# What figures are drawn with, by the style sheet's variable that takes each one's place.
DRAWN = {
    name: _COLORS[name][0] for name in ("card", "ink", "muted", "faint", "before", "after", "mark")
}
CARD, INK, MUTED, FAINT, BEFORE, AFTER, MARK = DRAWN.values()
# In pixels no variable is heard: these are legible on light and on dark.
BEFORE_PIXELS, AFTER_PIXELS = "#8b96a1", "#3480cc"


def style() -> str:
    """The colours as variables of a style sheet, and a class for each model's."""
    light, dark = (
        " ".join(f"--{name}: {pair[at]};" for name, pair in _COLORS.items()) for at in (0, 1)
    )
    models = " ".join(f".s{index} {{ color: var(--series-{index}); }}" for index in range(SERIES))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{models}\n"
    )
