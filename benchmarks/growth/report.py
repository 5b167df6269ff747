"""What `attention_growth.py` says about its measurements: slopes, tables, a plot."""

import math

import numpy as np

TARGET = 1.15  # the greatest slope of what is linear
UPPER = 3  # lengths that a slope is taken over
AHEAD = 1024  # the length from which on what is linear should be ahead of softmax


def slope(pairs):
    """The slope of log y over log n, by least squares over the largest lengths."""
    pairs = sorted((n, y) for n, y in pairs if y)[-UPPER:]
    if len(pairs) < 2:
        return None
    n, y = np.log(np.array(pairs, 'float64')).T
    return float(np.polyfit(n, y, 1)[0])


class Summary:
    """The points of one mode, ordered.

    Args:
        points: dicts with name, causal, baseline, n, and seconds and bytes or `note`.
    """

    def __init__(self, points):
        self.points = points
        self.lengths = sorted({p['n'] for p in points})
        names = {p['name']: p for p in points}
        self.baselines = [x for x, p in names.items() if p['baseline']]
        self.others = [x for x, p in names.items() if not p['baseline']]
        self.others.sort(key=self._order)

    def _order(self, name):
        seconds = self.curve(name, 'seconds')
        last = max(seconds, default=0)
        return -last, seconds.get(last, math.inf)

    def curve(self, name, what):
        """{n: value} of one candidate."""
        found = (p for p in self.points if p['name'] == name)
        return {p['n']: p[what] for p in found if p.get(what)}

    def causal(self, name):
        """Whether a candidate hides later keys."""
        return next(p['causal'] for p in self.points if p['name'] == name)

    def softmax(self, causal, what='seconds'):
        """{n: the least of all softmaxes}; of causal ones only, if it is asked for."""
        found = {}
        for p in self.points:
            if p['baseline'] and p.get(what) and (p['causal'] or not causal):
                found[p['n']] = min(p[what], found.get(p['n'], math.inf))
        return found

    def ratios(self, name, what='seconds'):
        """{n: the best softmax in sizes of this one}."""
        base = self.softmax(self.causal(name), what)
        return {n: base[n] / y for n, y in self.curve(name, what).items() if n in base}

    def ahead_from(self, name):
        """The least length from which on the softmax is slower; None: it never is."""
        found = None
        for n, ratio in sorted(self.ratios(name).items(), reverse=True):
            if ratio < 1:
                break
            found = n
        return found

    def notes(self, name):
        """{n: why there is no figure}."""
        found = (p for p in self.points if p['name'] == name)
        return {p['n']: p['note'] for p in found if p.get('note')}


def table(summary):
    """A Markdown table: milliseconds, how many times as fast as softmax, and growth."""
    lengths = summary.lengths
    head = ['attention', *(f'n = {n}' for n in lengths), 'slope', 'ahead from']
    head += [f'MB at {lengths[-1]}', 'slope']
    rows = [head, ['---'] + ['---:'] * (len(head) - 1)]
    for name in summary.baselines + summary.others:
        rows.append(_row(summary, name))
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(summary, name):
    seconds, size = (summary.curve(name, what) for what in ('seconds', 'bytes'))
    ratios, notes = summary.ratios(name), summary.notes(name)
    cells = []
    for n in summary.lengths:
        if n not in seconds:
            cells.append(notes.get(n, ''))
            continue
        ratio = f' ({ratios[n]:.2g}×)' if n in ratios else ''
        cells.append(f'{1e3 * seconds[n]:.3g} ms{ratio}')
    label = (
        name if summary.causal(name) or 'not causal' in name else f'{name}, not causal'
    )
    last = max(size, default=None)
    memory = '' if last is None else f'{size[last] / 1e6:.4g}'
    if last not in (None, summary.lengths[-1]):
        memory += f' (at {last})'
    curves = (x if len(x) >= UPPER else {} for x in (seconds, size))
    slopes = [slope(x.items()) for x in curves]
    time, space = ('' if x is None else f'{x:.2f}' for x in slopes)
    return [
        label,
        *cells,
        time,
        _ahead(summary, name),
        memory,
        space,
    ]


def _ahead(summary, name):
    """From where it is ahead, in a cell; nothing where too little was run to tell."""
    ratios = summary.ratios(name) if name in summary.others else {}
    ahead = summary.ahead_from(name) if ratios else None
    if ahead is None:
        return 'never' if max(ratios, default=0) >= AHEAD else ''
    return str(ahead)


def misses(summary, linear, fast):
    """Sentences on what falls short of the targets.

    Nothing is said of what the lengths that were run do not show: a slope wants
    `UPPER` of them, being ahead one of `AHEAD` or more.

    Args:
        linear: names whose slopes are to be at most `TARGET`, and that are to be ahead
            of softmax from n = `AHEAD` on.
        fast: {name: least ratio at n = 8192}.
    """
    for name in (x for x in summary.others if x in linear):
        for what in ('seconds', 'bytes'):
            curve = summary.curve(name, what)
            found = slope(curve.items()) if len(curve) >= UPPER else None
            if found and found > TARGET:
                word = {'seconds': 'time', 'bytes': 'memory'}[what]
                yield f'{name}: slope of {word} {found:.2f}, more than {TARGET}'
        ahead = summary.ahead_from(name)
        due = [n for n in summary.ratios(name) if n >= AHEAD]
        if due and (ahead is None or ahead > min(due)):
            yield (
                f'{name}: ahead of softmax from {ahead or "no length"}, not from '
                f'{min(due)}'
            )
    for name, least in fast.items():
        found = summary.ratios(name).get(8192) if name in summary.others else None
        if found and found < least:
            yield f'{name}: {found:.1f} times softmax at 8192, less than {least}'


def plot(summaries, title, path):
    """Log-log curves of time and of memory, one column for each mode, into a PNG.

    Args:
        summaries: {mode: `Summary`}.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            'The plot needs matplotlib: pip install -e ".[plot]", or --no-plot.'
        ) from error
    matplotlib.use('Agg')
    from matplotlib import pyplot

    width = 6 * len(summaries) + 3
    figure, axes = pyplot.subplots(
        2, len(summaries), figsize=(width, 11), squeeze=False
    )
    for column, (mode, summary) in zip(axes.T, summaries.items(), strict=True):
        for ax, what, unit in zip(
            column, ('seconds', 'bytes'), ('milliseconds', 'megabytes'), strict=True
        ):
            _draw(ax, summary, what, 1e3 if what == 'seconds' else 1e-6)
            ax.set(title=f'{mode}: {unit}', xlabel='length', ylabel=unit)
            ax.set_xticks(summary.lengths, [str(n) for n in summary.lengths])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0, 1 - 2.6 / width, 1))
    figure.legend(handles, labels, loc='center right', fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw(ax, summary, what, scale):
    ax.set_xscale('log', base=2)
    ax.set_yscale('log')
    styles = ('-', '--', '-.', ':')
    named = sorted(summary.others)  # so that colours are the same in all panels
    for name in summary.baselines + summary.others:
        curve = sorted(summary.curve(name, what).items())
        base = name in summary.baselines
        i = (summary.baselines if base else named).index(name)
        options = {'color': 'black', 'lw': 2.5} if base else {'color': f'C{i % 10}'}
        options['ls'] = styles[i % 4] if base else styles[i // 10 % 4]
        ax.plot(
            [n for n, _ in curve],
            [y * scale for _, y in curve],
            marker='.',
            label=name,
            **options,
        )
