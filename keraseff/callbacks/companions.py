"""Other callbacks that a `Checkpoint` calls, and of which it keeps the state."""

import keras
import numpy as np

# What changes in Keras' own while they train; `on_train_begin` sets it back.
KEPT = {
    keras.callbacks.EarlyStopping: (
        'wait',
        'best',
        'best_epoch',
        'best_weights',
        'stopped_epoch',
    ),
    keras.callbacks.ReduceLROnPlateau: ('wait', 'best', 'cooldown_counter'),
    keras.callbacks.ModelCheckpoint: ('best',),
}


class Companions:
    """A list of callbacks, called one after the other.

    Args:
        callbacks: of the classes in `KEPT`, or with an attribute `kept`, the names of
            attributes that hold values for JSON, or lists of arrays.
    """

    def __init__(self, callbacks):
        one = isinstance(callbacks, keras.callbacks.Callback)
        self.callbacks = [callbacks] if one else list(callbacks or ())
        for callback in self.callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise ValueError(
                    f'callbacks={callback!r} is no callback; give a list of objects '
                    'such as [keras.callbacks.EarlyStopping()]'
                )
        self._names = [_kept(callback) for callback in self.callbacks]
        self._saved = None
        self._ended = False

    def begin(self, model, params, logs):
        """Their `on_train_begin`; whether they had ended the training that goes on."""
        saved, self._saved, ended, self._ended = self._saved, None, self._ended, False
        for callback in self.callbacks:
            if callback.params is params:
                raise ValueError(
                    f'{type(callback).__name__} is among the callbacks of fit and of '
                    'the Checkpoint, and would be called twice: take it out of fit'
                )
            callback.set_params(dict(params))
            callback.set_model(model)
        self.call('on_train_begin', logs)
        for callback, values in zip(self.callbacks, saved or (), strict=bool(saved)):
            for name, value in values.items():
                setattr(callback, name, value)
        return ended

    def call(self, hook, *arguments):
        """A method of each."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def end_epoch(self, model, epoch, logs):
        """Their `on_epoch_end`."""
        before = model.stop_training
        self.call('on_epoch_end', epoch, logs)
        self._ended = model.stop_training is True and before is not True

    def state(self):
        """(value for JSON, {name: array})."""
        rows, arrays = [], {}
        for i, (callback, names) in enumerate(
            zip(self.callbacks, self._names, strict=True)
        ):
            found = {name: getattr(callback, name) for name in names}
            lists = {n: len(value) for n, value in found.items() if _arrays(value)}
            plain = {n: _plain(v) for n, v in found.items() if n not in lists}
            rows.append([type(callback).__name__, plain, lists])
            for name in lists:
                arrays |= {f'{i}.{name}.{k}': a for k, a in enumerate(found[name])}
        return {'rows': rows, 'ended': self._ended}, arrays

    def restore(self, about, arrays, source):
        """What `state` gave becomes theirs when training begins.

        Raises ValueError if they are not the ones of which it was.
        """
        rows = (about or {}).get('rows')
        if not rows or not self.callbacks:
            return
        kinds = [kind for kind, *_ in rows]
        here = [type(callback).__name__ for callback in self.callbacks]
        if kinds != here:
            raise ValueError(
                f'{source} was saved with callbacks={kinds}, and these are {here}; '
                'give the same, or none.'
            )
        self._ended = about['ended']
        self._saved = []
        for i, (_, plain, lists) in enumerate(rows):
            known = {n: [f'{i}.{n}.{k}' for k in range(c)] for n, c in lists.items()}
            found = {n: [arrays[x] for x in names] for n, names in known.items()}
            self._saved.append(plain | found)


def _kept(callback):
    names = [
        n for kind, kept in KEPT.items() if isinstance(callback, kind) for n in kept
    ]
    own = getattr(callback, 'kept', None)
    if own is None and not names:
        raise ValueError(
            f'{type(callback).__name__} does not say what it keeps: name attributes in '
            'a class attribute `kept`, or give it to fit.'
        )
    return list(dict.fromkeys([*names, *(own or ())]))


def _arrays(value):
    return isinstance(value, list) and any(isinstance(x, np.ndarray) for x in value)


def _plain(value):
    return value.item() if hasattr(value, 'item') else value
