# SPDX-License-Identifier: GPL-2.0-or-later
"""Curves over time as an SVG: panels below each other with one axis of
seconds, a curve a variant, and what happened when."""

import math
from xml.sax.saxutils import escape

COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7')
LEFT, WIDTH, HEIGHT, GAP, TOP = 70, 620, 150, 44, 56


class Panel:
    """@series: {variant: [(second, value)]}; @log: a logarithmic axis."""

    def __init__(self, title, series, log=False, low=None, high=None):
        self.title = title
        self.series = series
        self.log = log
        values = [v for points in series.values() for _, v in points]
        if log:
            values = [v for v in values if v > 0]
        self.low = low if low is not None else min(values, default=1)
        self.high = high if high is not None else max(values, default=1)
        if self.high <= self.low:
            self.high = self.low + 1

    def place(self, value):
        """0 at the bottom, 1 at the top."""
        if self.log:
            value = max(value, self.low)
            span = math.log(self.high / self.low)
            return math.log(value / self.low) / span
        return (value - self.low) / (self.high - self.low)

    def ticks(self):
        if not self.log:
            return [self.low + (self.high - self.low) * i / 4
                    for i in range(5)]
        first = math.ceil(math.log10(self.low))
        last = math.floor(math.log10(self.high))
        return [10.0 ** i for i in range(first, last + 1)]


def _panel(panel, top, seconds):
    def x(second):
        return LEFT + WIDTH * second / seconds

    def y(value):
        return top + HEIGHT * (1 - min(max(panel.place(value), 0), 1))
    out = [f'<text x="{LEFT}" y="{top - 8}">{escape(panel.title)}</text>',
           f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" '
           'fill="none" stroke="#888"/>']
    for tick in panel.ticks():
        out += [f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" '
                f'text-anchor="end">{tick:g}</text>',
                f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(tick):.1f}" '
                f'y2="{y(tick):.1f}" stroke="#ddd"/>']
    for colour, points in zip(COLOURS, panel.series.values()):
        text = ' '.join(f'{x(s):.1f},{y(v):.1f}' for s, v in points)
        out.append(f'<polyline points="{text}" fill="none" '
                   f'stroke="{colour}" stroke-width="1.6"/>')
    return out


def _marks(events, seconds, bottom):
    out = []
    for second, text in events:
        x = LEFT + WIDTH * second / seconds
        out += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" '
                'stroke="black" stroke-dasharray="4 3"/>',
                f'<text x="{x + 3:.1f}" y="{TOP + 12}">{escape(text)}</text>']
    return out


def write(path, title, panels, events):
    """@events: [(second, what happens)]"""
    seconds = max((s for p in panels for points in p.series.values()
                   for s, _ in points), default=1) or 1
    bottom = TOP + (HEIGHT + GAP) * len(panels) - GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" '
           f'width="{LEFT + WIDTH + 20}" height="{bottom + 34}" '
           'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="12" y="20" font-size="15">{escape(title)}</text>']
    at = LEFT
    for colour, name in zip(COLOURS, panels[0].series):
        out.append(f'<text x="{at + 360}" y="40" fill="{colour}">'
                   f'{escape(name)}</text>')
        at += 8 * len(name) + 16
    for index, panel in enumerate(panels):
        out += _panel(panel, TOP + index * (HEIGHT + GAP), seconds)
    out += _marks(events, seconds, bottom)
    for second in range(0, int(seconds) + 1, 10):
        out.append(f'<text x="{LEFT + WIDTH * second / seconds:.1f}" '
                   f'y="{bottom + 16}" text-anchor="middle">{second}</text>')
    out += [f'<text x="{LEFT + WIDTH}" y="{bottom + 30}" '
            'text-anchor="end">seconds</text>', '</svg>']
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(out) + '\n', encoding='utf-8')
