"""Keras 3 models of `keraseff` and of keras-hub."""

import os

import keras

from contenders.rows import CLASSES
from contenders.rows import batches
from contenders.rows import one_of_each_shape
from contenders.rows import padded


def compiled(inputs, hidden, spec, optimizer):
    """A classifier of the first token, or of each."""
    if spec['task'] == 'classification':
        hidden = hidden[:, 0]
    dropped = keras.layers.Dropout(0.1)(hidden)
    scores = keras.layers.Dense(CLASSES[spec['task']], dtype='float32')(dropped)
    model = keras.Model(inputs, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Without XLA TensorFlow is faster here: both have it so.
    jit = False if keras.config.backend() == 'tensorflow' else 'auto'
    model.compile(optimizer(spec['rate']), loss, jit_compile=jit)
    return model


class Ours:
    """`keraseff`; batches of its `DataGenerator`."""

    def __init__(self, spec, rows):
        from keraseff.data import DataGenerator
        from keraseff.models import build_transformer_model
        from keraseff.optimizers import Adam

        class Batches(DataGenerator):
            # Elsewhere a new shape costs something: few of them.
            multiple_of = 1 if keras.config.backend() == 'torch' else 16
            bucketing = spec['padding'] == 'bucketed'

            def encode(self, row):
                return (row[0], row[0] * 0), row[1]

        keras.config.set_dtype_policy(spec['dtype'])
        bert = build_transformer_model(spec['config'])
        self.model = compiled(bert.inputs, bert.output, spec, Adam)
        self.parameters = self.model.count_params()
        self.spec, self.rows = spec, rows
        self.make = lambda: Batches(rows, spec['batch_size'], seed=0)

    def step(self, rows):
        """Train on a batch of equally long texts; the loss."""
        ids, _, labels = padded(rows, self.spec['length'])
        return float(self.model.train_on_batch([ids, ids * 0], labels))

    def warm_up(self):
        """Compile for the shapes of the epochs to come."""
        first = list(self.make())
        if self.spec['padding'] == 'bucketed':
            first = list(self.make().__iter__(random=True))
        for x, y in one_of_each_shape(first, lambda batch: batch[0][0].shape):
            self._fit((batch for batch in [(x, y)] * 2), 2)

    def epoch(self):
        """Train on all texts once."""
        batches = self.make()
        random = self.spec['padding'] == 'bucketed'
        self._fit(batches.forfit(random), len(batches))

    def _fit(self, found, steps):
        self.model.fit(found, steps_per_epoch=steps, verbose=0, shuffle=False)


class KerasHub:
    """keras-hub's `BertBackbone`, padded to one length, as its preprocessors pad."""

    def __init__(self, spec, rows):
        import keras_hub

        config = spec['config']
        bert = keras_hub.models.BertBackbone(
            vocabulary_size=config['vocab_size'],
            num_layers=config['num_hidden_layers'],
            num_heads=config['num_attention_heads'],
            hidden_dim=config['hidden_size'],
            intermediate_dim=config['intermediate_size'],
            dropout=0.1,
            max_sequence_length=config['max_position_embeddings'],
        )
        self.model = compiled(
            bert.input, bert.output['sequence_output'], spec, keras.optimizers.Adam
        )
        self.parameters = self.model.count_params()
        self.spec, self.rows = spec, rows

    def inputs(self, batch):
        """Inputs, labels, and weights where there is padding to leave out."""
        ids, mask, labels = batch
        x = {'token_ids': ids, 'segment_ids': ids * 0, 'padding_mask': mask}
        return x, labels, mask if labels.ndim > 1 else None

    def step(self, rows):
        """Train on a batch of equally long texts; the loss."""
        x, y, weights = self.inputs(padded(rows, self.spec['length']))
        return float(self.model.train_on_batch(x, y, weights))

    def batches(self):
        """All of them, in order."""
        width = self.spec['maxlen'] if self.spec['padding'] == 'fixed' else None
        return [
            self.inputs(b) for b in batches(self.rows, self.spec['batch_size'], width)
        ]

    def warm_up(self):
        """Compile for the shapes of the epochs to come."""
        self._fit(one_of_each_shape(self.batches(), lambda b: b[0]['token_ids'].shape))

    def epoch(self):
        """Train on all texts once."""
        self._fit(self.batches())

    def _fit(self, found):
        found = [batch if batch[2] is not None else batch[:2] for batch in found]
        self.model.fit(
            (batch for batch in found),
            steps_per_epoch=len(found),
            verbose=0,
            shuffle=False,
        )


if os.environ.get('THREADS') and keras.config.backend() == 'torch':
    import torch

    torch.set_num_threads(int(os.environ['THREADS']))
