"""Rematerialised layers: the same numbers from less memory."""

import keras
import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import save_and_reopen

from keraseff.layers import FirstToken
from keraseff.models import build_transformer_model
from keraseff.training import adversarial_training
from keraseff.training import keep_everything
from keraseff.training import r_drop
from keraseff.training import rematerialise

CONFIG = SMALL | {
    'segment_vocab_size': 0,
    'num_hidden_layers': 1,
    'dropout_rate': 0.1,
    'attention_dropout_rate': 0.4,
}


def build(policy=None, **options):
    keras.utils.set_random_seed(0)
    sequence = build_transformer_model(CONFIG, dtype=policy, **options)
    x = FirstToken()(sequence.output)
    scores = keras.layers.Dense(3, dtype='float32')(x)
    model = keras.Model(sequence.input, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss)
    return model


def train(model, steps=3):
    """Losses of some steps, and all numbers after them."""
    keras.utils.set_random_seed(1)
    y = np.array([0, 2])
    losses = [float(model.train_on_batch(IDS, y)) for _ in range(steps)]
    flat = [np.ravel(w).astype('float32') for w in model.get_weights()]
    return losses, np.concatenate(flat)


def check(tolerance=1e-5, trick=lambda m: m, **options):
    """Training with dropout within attention gives equal weights, to rounding."""
    plain = train(trick(build(**options)))
    model = trick(build(**options))
    names = rematerialise(model)
    found = train(model)
    assert_close(found, plain, atol=tolerance, rtol=tolerance)
    assert found[0][0] != found[0][1]
    return model, names


@pytest.mark.every_backend
def test_gradients_are_equal_with_dropout():
    model, names = check()
    assert 'Transformer-0-FeedForward' in names
    assert len(names) == 1 + 4
    assert_close(called(save_and_reopen(model), IDS), called(model, IDS))
    keep_everything(model)
    assert not any('call' in vars(layer) for layer in model.layers)


def test_a_loss_and_a_state_within_a_layer_survive():
    # Its codebook's loss is added in the layer, and its averages are assigned there.
    check(attention='vq', attention_options={'codes': 4, 'block': 2})


@pytest.mark.parametrize('policy', ['mixed_bfloat16', 'mixed_float16'])
def test_mixed_precision(policy):
    check(policy=policy, tolerance=1e-6)


def test_it_composes_with_the_tricks():
    check(trick=lambda m: adversarial_training(r_drop(m), epsilon=0.1))


def test_a_unit_is_computed_again_as_a_whole():
    _, names = check(model='gau_alpha')
    assert 'Transformer-0-GatedAttentionUnit' in names
    assert not any('scaleoffset' in name for name in names)


def test_what_is_kept_between_the_passes():
    torch = pytest.importorskip('torch')
    if keras.config.backend() != 'torch':
        pytest.skip('only Torch tells what it keeps')

    def kept(model):
        sizes = {}

        def pack(x):
            sizes[x.data_ptr()] = x.numel() * x.element_size()
            return x

        ids = torch.randint(1, 20, (4, 64))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(ids, training=True)
        return sum(sizes.values())

    options = {'max_position': 64, 'intermediate_size': 48, 'num_hidden_layers': 2}
    plain = kept(build(**options))
    model = build(**options)
    rematerialise(model)
    assert kept(model) < 0.4 * plain


def test_names_that_are_no_layers():
    with pytest.raises(ValueError, match="no layer that 'Transformr' finds"):
        rematerialise(build(), 'Transformr')
    assert rematerialise(build(), 'FeedForward$') == [
        f'Transformer-{i}-FeedForward' for i in range(1)
    ]
