"""Numbers in; small SVG pictures out, coloured by the page's own style."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["bar", "columns", "cut", "esc", "heat", "line"]

WIDTH = 300


def esc(text: object) -> str:
    """Text that HTML shows as it is; control characters, which no page can show, become a mark."""
    shown = "".join(c if c.isprintable() or c == " " else "�" for c in str(text))
    return html.escape(shown.encode("utf-8", "replace").decode(), quote=True)


def cut(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 1] + "…"


def bar(share: float, negative: bool = False) -> str:
    """A horizontal bar, from 0 to 1; the number beside it says the same in words."""
    share = 0.0 if math.isnan(share) else min(max(share, 0.0), 1.0)
    return f'<i class="bar{" neg" if negative else ""}" style="background-size:{100 * share:.1f}% 100%" aria-hidden="true"></i>'


def _svg(body: str, alt: str, height: int) -> str:
    return (
        f'<svg class="chart" role="img" aria-label="{esc(alt)}" viewBox="0 0 {WIDTH} {height}" height="{height}" '
        f'preserveAspectRatio="none">{body}</svg>'
    )


def columns(counts: Sequence[float], alt: str, height: int = 76, gap: float = 0.08) -> str:
    """Upright bars; a count above zero is never invisible."""
    most, step = max(counts, default=0) or 1, WIDTH / max(len(counts), 1)
    shapes = []
    for place, count in enumerate(counts):
        if count > 0:
            tall = max(1.0, count / most * (height - 4))
            shapes.append(f"M{(place + gap / 2) * step:.1f} {height}v-{tall:.1f}h{step * (1 - gap):.1f}v{tall:.1f}z")
    return _svg(f'<path d="{"".join(shapes)}"/>', alt, height)


def line(values: Sequence[float], alt: str, height: int = 76) -> str:
    """A line through the values, from the least at the bottom to the most at the top."""
    low, high = min(values), max(values)
    span, step = (high - low) or 1.0, WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{i * step:.1f},{height - 6 - (v - low) / span * (height - 14):.1f}" for i, v in enumerate(values)
    )
    return _svg(f'<polyline class="line" points="{points}"/>', alt, height)


def heat(names: Sequence[str], pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """A square of every pair, the stronger the darker; each cell has its words."""
    size, labels = (26, 132) if len(names) <= 20 else (17, 126)
    whole = labels + size * len(names)
    parts = []
    for i, a in enumerate(names):
        middle = labels + i * size + size / 2
        parts.append(f'<text x="{labels - 6}" y="{middle + 4:.0f}" text-anchor="end">{esc(cut(a, 20))}</text>')
        parts.append(f'<text transform="translate({middle + 4:.0f} {labels - 6}) rotate(-60)">{esc(cut(a, 18))}</text>')
        for j, b in enumerate(names):
            item = pairs.get((a, b)) or pairs.get((b, a))
            x, y = labels + j * size, labels + i * size
            if item is None:
                parts.append(f'<rect class="z" x="{x}" y="{y}" width="{size - 1}" height="{size - 1}"/>')
                continue
            value = float(item["value"])
            parts.append(
                f'<rect class="{"n" if value < 0 else "p"}" fill-opacity="{max(0.04, abs(value)):.2f}" x="{x}" y="{y}" '
                f'width="{size - 1}" height="{size - 1}">'
                + (f"<title>{esc(cut(a, 40))} – {esc(cut(b, 40))}: {value:.2f}</title>" if j > i else "")
                + "</rect>"
            )
    alt = f"Heat map of the associations of {len(names)} columns; the strongest are in the table beside it."
    return f'<svg class="map" role="img" aria-label="{alt}" width="{whole + 40}" viewBox="0 0 {whole + 40} {whole}">{"".join(parts)}</svg>'
