"""A small model with attention, dropout and padding, for the tricks of training."""

import keras
import numpy as np
from keras import ops

from keraseff.layers import Embedding
from keraseff.layers import MultiHeadAttention
from keraseff.training.objective import Batch

IDS = np.array([[2, 5, 6, 3], [2, 9, 3, 0], [4, 4, 7, 0], [8, 1, 0, 0]])
LABELS = np.array([0, 1, 2, 1])


def build(dropout=0.0, size=6, loss=None, rate=0.5, seed=0):
    """ids (b, n) -> scores (b, 3), compiled with SGD."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype='int32')
    options = {'mask_zero': True, 'name': 'Embedding-Token'}
    x = Embedding(10, size, embeddings_initializer='normal', **options)(ids)
    x = MultiHeadAttention(2, 3, out_dim=size, name='attention')(x)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    scores = keras.layers.Dense(3, dtype='float32', name='scores')(x)
    model = keras.Model(ids, scores)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def train(model, steps=3, x=IDS, y=LABELS, **options):
    """The losses of some steps on one batch."""
    return [float(model.train_on_batch(x, y, **options)) for _ in range(steps)]


def weights(model):
    """All its numbers, one vector."""
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def logistic(n=6, size=8, seed=0, rows=5):
    """One id, the vector of which are the scores of a softmax, and ids for it."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((1,), dtype='int32')
    layer = Embedding(n, size, embeddings_initializer='normal', name='Embedding-Token')
    scores = keras.layers.Dense(4, use_bias=False, kernel_initializer='normal')
    model = keras.Model(ids, scores(layer(ids)[:, 0]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.set_weights([10 * w for w in model.get_weights()])
    return model, np.arange(rows)[:, None]


def array(x):
    return np.array(ops.convert_to_numpy(x))


def loss_at(model, change):
    """The compiled loss with a change of the matrix put into it for real."""
    matrix = model.get_layer('Embedding-Token').embeddings
    before = array(matrix)
    matrix.assign(before + change)
    batch = Batch(model, IDS, LABELS)
    loss = float(array(batch.loss(batch.predict())))
    matrix.assign(before)
    return loss


def plain_gradient(build):
    """The loss' gradient at the matrix: a step of plain SGD with rate 1."""
    model = build()
    model.optimizer.learning_rate = 1.0
    matrix = model.get_layer('Embedding-Token').embeddings
    before = array(matrix)
    train(model, 1)
    return before - array(matrix)
