"""bert4keras 0.11.5, on legacy Keras: an environment of its own (the docstring of
`benchmarks/fine_tuning.py` says how)."""

import json
import tempfile

import tensorflow as tf

from contenders.rows import CLASSES
from contenders.rows import batches
from contenders.rows import padded


class Bert4keras:
    """Padded to the longest of a batch, as by its `sequence_padding`."""

    def __init__(self, spec, rows):
        # Its optimizers are subclasses of what has this name now.
        tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
        from bert4keras.backend import keras
        from bert4keras.models import build_transformer_model
        from bert4keras.optimizers import Adam

        with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
            json.dump(spec['config'], file)
            file.flush()
            bert = build_transformer_model(file.name, return_keras_model=False)
        hidden = bert.model.output
        if spec['task'] == 'classification':
            hidden = keras.layers.Lambda(lambda x: x[:, 0])(hidden)
        dropped = keras.layers.Dropout(0.1)(hidden)
        scores = keras.layers.Dense(CLASSES[spec['task']], activation='softmax')(
            dropped
        )
        self.model = keras.models.Model(bert.model.input, scores)
        self.model.compile(
            loss='sparse_categorical_crossentropy', optimizer=Adam(spec['rate'])
        )
        self.parameters = self.model.count_params()
        self.spec, self.rows = spec, rows

    def step(self, rows):
        """Train on a batch of equally long texts; the loss."""
        ids, _, labels = padded(rows, self.spec['length'])
        return float(self.model.train_on_batch([ids, ids * 0], labels))

    def _fit(self, found):
        def without_end():
            while True:
                for ids, _, labels in found:
                    yield [ids, ids * 0], labels

        self.model.fit(without_end(), steps_per_epoch=len(found), verbose=0)

    def warm_up(self):
        """Compile for the shapes of the epochs to come."""
        self._fit(batches(self.rows, self.spec['batch_size'])[:3])

    def epoch(self):
        """Train on all texts once."""
        width = self.spec['maxlen'] if self.spec['padding'] == 'fixed' else None
        self._fit(batches(self.rows, self.spec['batch_size'], width))
