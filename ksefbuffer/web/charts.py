"""Small bar charts as SVG: no script, no style of their own, colours by class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 20, 64
_BASE = 16  # below the bars: the days
_TOP = 12  # above them: the figure of the highest


@dataclass(frozen=True)
class Bar:
    """What one day brought; ``url`` leads to its list, "" to nowhere."""

    day: date
    count: int
    url: str = ""


def spaced(count: int) -> str:
    """12 345, with a hard space."""
    return f"{count:,}".replace(",", "\u00a0")


def bar_chart(title: str, bars: Sequence[Bar], kind: str) -> Markup:
    """A figure with one bar a day and a tooltip on each; ``kind`` is the class that colours it."""
    highest = max((bar.count for bar in bars), default=0)
    total = sum(bar.count for bar in bars)
    width = len(bars) * _WIDTH
    drawn = [_bar(at, bar, highest) for at, bar in enumerate(bars)]
    spoken = f"{title}: razem {spaced(total)}, najwięcej jednego dnia {spaced(highest)}"
    return Markup(
        '<figure class="chart {kind}"><figcaption>{title} <span class="total">{total}</span></figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="group" aria-label="{spoken}">{drawn}</svg></figure>'
    ).format(
        kind=kind,
        title=title,
        total=spaced(total),
        width=width,
        height=_TOP + _HEIGHT + _BASE,
        spoken=spoken,
        drawn=Markup("").join(drawn),
    )


def _bar(at: int, bar: Bar, highest: int) -> Markup:
    # A day that brought anything is seen, beside a day that brought thousands too.
    tall = max(2.0, _HEIGHT * bar.count / highest) if bar.count else 0.0
    left, top = at * _WIDTH, _TOP + _HEIGHT - tall
    tip = f"{bar.day:%d.%m.%Y}: {spaced(bar.count)}"
    parts = [Markup("<title>{}</title>").format(tip)]
    # The whole column is the target of the pointer, however low the bar.
    parts.append(
        Markup('<rect class="room" fill-opacity="0" x="{}" y="{}" width="{}" height="{}"/>').format(
            left, 0, _WIDTH, _TOP + _HEIGHT
        )
    )
    parts.append(
        Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="1.5"/>').format(
            left + 3, f"{top:.1f}", _WIDTH - 6, f"{tall:.1f}"
        )
    )
    if bar.count and bar.count == highest:
        parts.append(
            Markup('<text text-anchor="middle" font-size="9" x="{}" y="{}">{}</text>').format(
                left + _WIDTH / 2, 9, _short(bar.count)
            )
        )
    parts.append(
        Markup('<text text-anchor="middle" font-size="9" x="{}" y="{}">{}</text>').format(
            left + _WIDTH / 2, _TOP + _HEIGHT + _BASE - 4, f"{bar.day:%d}"
        )
    )
    inside = Markup("").join(parts)
    if bar.url and bar.count:
        return Markup('<a href="{}" aria-label="{}">{}</a>').format(bar.url, tip, inside)
    return Markup("<g>{}</g>").format(inside)


def _short(count: int) -> str:
    """What fits over a bar: 950, 12 tys."""
    return str(escape(str(count) if count < 10_000 else f"{count // 1000} tys."))
