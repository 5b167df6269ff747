"""Curves of training: `LearningCurves` as a PNG, `EventFiles` for TensorBoard."""

from pathlib import Path

import keras

from keraseff.callbacks.pictures import require_matplotlib
from keraseff.callbacks.pictures import save_picture
from keraseff.callbacks.run_directory import read_metrics
from keraseff.optimizers.arguments import check_count

VALIDATION = 'val_'


class LearningCurves(keras.callbacks.Callback):
    """Draws each metric against the epoch, after each epoch, into `curves.png`.

    Args:
        path: directory; epochs before this `fit` are read from its `metrics.jsonl`,
            which `RunDirectory` writes.

    A metric and its `val_` share a panel.  Raises ImportError without matplotlib.
    """

    def __init__(self, path):
        super().__init__()
        require_matplotlib()
        self.file = Path(path) / 'curves.png'
        self.rows = {}  # {epoch: {metric: number}}

    def on_train_begin(self, logs=None):
        """Read what there is of earlier epochs."""
        self.rows = {row['epoch']: row for row in read_metrics(self.file.parent)}

    def on_epoch_end(self, epoch, logs=None):
        """Draw."""
        rows = {e: row for e, row in self.rows.items() if e <= epoch}
        self.rows = rows | {epoch + 1: logs or {}}
        names = [n for row in self.rows.values() for n, v in row.items() if number(v)]
        panels = dict.fromkeys(n.removeprefix(VALIDATION) for n in names)
        panels.pop('epoch', None)
        if panels:
            save_picture(
                self.file, lambda *axes: self._draw(axes, panels), len(panels), 4, 3
            )

    def _draw(self, axes, panels):
        for place, panel in zip(axes, panels, strict=True):
            for name in (panel, VALIDATION + panel):
                points = [(e, r[name]) for e, r in self.rows.items() if name in r]
                if points:
                    place.plot(*zip(*points, strict=True), marker='.', label=name)
            place.set_xlabel('epoch')
            place.legend()


class EventFiles(keras.callbacks.Callback):
    """Writes the logs of each epoch for TensorBoard, on any backend.

    Args:
        path: directory, for `tensorboard --logdir`; the metrics of training go to
            `train` in it, those with `val_` to `validation`.
        every: steps between two entries of the running metrics as `batch_...`; None for
            none.

    It uses tensorboardX, which writes event files without TensorFlow; that of Keras and
    TensorBoard's own writer load TensorFlow, and PyTorch's needs TensorBoard.  Raises
    ImportError without it.
    """

    def __init__(self, path, every=None):
        super().__init__()
        if every is not None:
            check_count(every=every)
        self.path = str(path)
        self.every = every
        self._writer_class = _writer_class()
        self._writers = {}
        self._steps = 0

    def on_train_begin(self, logs=None):
        """Go on counting where the optimizer is."""
        self._steps = int(self.model.optimizer.iterations)

    def on_train_batch_end(self, batch, logs=None):
        """Write the running metrics, if it is time."""
        self._steps += 1
        if self.every and self._steps % self.every == 0:
            for name, value in (logs or {}).items():
                self._write('train', f'batch_{name}', value, self._steps)

    def on_epoch_end(self, epoch, logs=None):
        """Write."""
        for name, value in (logs or {}).items():
            if not number(value):
                continue
            held_out = name.startswith(VALIDATION)
            folder = 'validation' if held_out else 'train'
            self._write(folder, name.removeprefix(VALIDATION), value, epoch + 1)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, folder, name, value, step):
        if folder not in self._writers:
            self._writers[folder] = self._writer_class(f'{self.path}/{folder}')
        self._writers[folder].add_scalar(name, float(value), step)


def number(value):
    """Whether it is one that can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _writer_class():
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError(
            'EventFiles writes with tensorboardX: pip install tensorboardX'
        ) from None
    return SummaryWriter
