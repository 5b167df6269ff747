"""Pictures that callbacks leave behind, drawn by matplotlib where it is installed."""

import os

from keraseff.callbacks.state import whole_file


def save_picture(path, draw, columns=1, width=6.0, height=4.0):
    """Draw a row of plots into a PNG, which takes the place of what is there.

    Args:
        path: where to.
        draw: takes a `matplotlib.axes.Axes`, or as many of them as there are columns.
        columns: plots beside each other.
        width, height: of each, in inches.

    No window is opened, and pyplot's figures are left alone.  Raises ImportError if
    matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), layout='constrained')
    draw(*figure.subplots(1, columns, squeeze=False)[0])
    with whole_file(path) as unfinished:
        figure.savefig(os.fspath(unfinished), format='png', dpi=120)


def require_matplotlib():
    """Raise ImportError, saying what to install, where there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError(
            'Pictures need matplotlib: pip install matplotlib, or ask for none '
            '(picture=None).'
        ) from None
