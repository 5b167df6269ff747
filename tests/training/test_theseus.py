"""BERT-of-Theseus: its limits, its schedules, what is left at the end."""

import keras
import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import randomise
from harness import save_and_reopen
from harness import to_numpy

from keraseff.checkpoints import open_checkpoint
from keraseff.layers import BinaryRandomChoice
from keraseff.layers import FirstToken
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables
from keraseff.training import ReplacementScheduler
from keraseff.training import bert_of_theseus
from keraseff.training import constant_replacement
from keraseff.training import extract_successor
from keraseff.training import linear_replacement
from keraseff.training import truncate

CONFIG = SMALL | {'num_hidden_layers': 4, 'segment_vocab_size': 0}
LABELS = np.array([0, 2])


def pair(family='bert', layers=2, **options):
    """A predecessor of four random layers, and a successor of other weights."""
    old = build_transformer_model(
        CONFIG, model=family, return_keras_model=False, prefix='Old-', **options
    )
    randomise(old.model, seed=1)
    new = truncate(old, layers)
    randomise(new.model, seed=2)
    return old, new


def set_rate(model, rate):
    for layer in model.layers:
        if isinstance(layer, BinaryRandomChoice):
            layer.replacement.assign(rate)


def inputs_of(model):
    found = [np.zeros((2, 4, 12), 'float32') if len(x.shape) > 2 else IDS
             for x in model.inputs]  # fmt: skip
    return found if len(found) > 1 else found[0]


# One of each kind of graph: added, shared, gated, causal, summed scores, two parts.
FAMILIES = {
    'bert': {},
    'albert': {},
    'gau_alpha': {},
    'gpt2': {'with_lm': 'linear'},
    'nezha': {'residual_attention_scores': True, 'with_mlm': 'linear'},
    't5': {'with_lm': 'linear'},
}


@pytest.mark.parametrize('family', FAMILIES)
def test_the_limits_are_the_two_models(family):
    old, new = pair(family, **FAMILIES[family])
    kept = list(new.attended)
    model = bert_of_theseus(old, new)
    x = inputs_of(model)
    ends = [to_numpy(t.model(x, training=True)) for t in (old, new)]
    assert np.abs(ends[0] - ends[1]).max() > 1e-2
    for rate, expected in zip((0.0, 1.0), ends, strict=True):
        set_rate(model, rate)
        assert_close(model(x, training=True), expected)
    set_rate(model, 0.0)
    assert_close(model(x), ends[1])  # at inference the successor, whatever the rate
    assert_close(called(extract_successor(model), x), ends[1])
    assert new.attended == kept


@pytest.fixture(scope='module')
def trained():
    """A mixed model after some steps, its two parts, and the losses."""
    old, new = pair()
    scores = keras.layers.Dense(3, name='scores')
    scores.build((None, 12))
    model = bert_of_theseus(
        old, new, lambda x: scores(FirstToken()(x)), rate=0.5, seed=3
    )
    before = [to_numpy(v.value) for v in (*old.model.variables, *scores.variables)]
    first = to_numpy([v.value for v in new.model.variables])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs=None: seen.append(scheduler.rate)
    )
    scheduler = ReplacementScheduler(linear_replacement(0.25, 0.25))
    options = {'shuffle': False, 'verbose': 0, 'callbacks': [scheduler, look]}
    x, y = np.tile(IDS, (4, 1)), np.tile(LABELS, 4)
    model.fit(x, y, batch_size=4, epochs=1, **options)
    history = model.fit(x, y, batch_size=4, epochs=2, **options)  # goes on counting
    return old, new, scores, model, before, first, seen, history.history


@pytest.mark.every_backend
def test_training_moves_the_successor_alone(trained):
    old, new, scores, model, before, first, seen, history = trained
    now = [to_numpy(v.value) for v in (*old.model.variables, *scores.variables)]
    assert_close(now, before, atol=0, rtol=0)
    moved = [
        np.abs(a - to_numpy(v.value)).max()
        for a, v in zip(first, new.model.variables, strict=True)
    ]
    trainable = {id(v) for v in model.trainable_variables}
    assert trainable == {id(v) for v in new.model.trainable_variables}
    assert min(moved) > 0
    # By Keras' own counting of steps, without a new compilation.
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert history['replacement_rate'] == [1.0, 1.0]
    rates = [
        float(to_numpy(x.replacement.value))
        for x in model.layers
        if isinstance(x, BinaryRandomChoice)
    ]
    assert rates == [1.0] * 3  # the embeddings and two layers


@pytest.mark.every_backend
def test_the_successor_comes_out_alone(trained, tmp_path):
    old, new, scores, model, *_ = trained
    expected = called(model, IDS)
    mixed = save_and_reopen(model)
    small = extract_successor(model)
    own = {id(v) for v in (*new.model.variables, *scores.variables)}
    assert {id(v) for v in small.variables} == own
    assert len(small.trainable_variables) == len(own)
    assert not any(layer.name.startswith(('Old-', 'Repl')) for layer in small.layers)
    reopened = save_and_reopen(small)
    assert_close(called(reopened, IDS), expected)
    assert_close(called(extract_successor(mixed), IDS), expected)
    for file in ('new.safetensors', 'new.ckpt'):
        new.save_weights_as_checkpoint(tmp_path / file)
        again = build_transformer_model(
            CONFIG, tmp_path / file, num_hidden_layers=2, return_keras_model=False
        )
        assert_close(again.model.get_weights(), new.model.get_weights(), atol=0)
        assert len(open_checkpoint(tmp_path / file)) == len(named_variables(new))
    # Neither inference nor the small model has anything of the predecessor's.
    randomise(old.model, seed=9)
    assert_close(called(model, IDS), expected)
    assert_close(called(small, IDS), expected)


@pytest.mark.parametrize('family', ['bert', 'albert_unshared', 't5_decoder'])
def test_truncation_is_the_first_layers(family):
    old = build_transformer_model(CONFIG, model=family, return_keras_model=False)
    randomise(old.model)
    new = truncate(old, 2, prefix='New-')
    names = named_variables(new)
    assert all(name.startswith('New-') for name in new.layers)
    source = named_variables(old)
    for name, variable in names.items():
        assert_close(variable.value, source[name].value, atol=0)
    picked = named_variables(truncate(old, [0, 3]))
    for name, variable in picked.items():
        twin = name.replace('Transformer-1-', 'Transformer-3-')
        assert_close(variable.value, source[twin].value, atol=0)
    assert_close(truncate(old, 4).model.get_weights(), old.model.get_weights())


def test_a_truncated_model_is_the_model_cut_behind_a_layer():
    old, _ = pair()
    new = truncate(old, 3)
    end = old.model.get_layer('Old-Transformer-2-FeedForward-Norm').output
    cut = keras.Model(old.model.input, end)
    assert_close(called(new.model, IDS), called(cut, IDS))


def test_schedules():
    constant, linear = constant_replacement(), linear_replacement()
    steps = [0, 2499, 2500, 9999]
    assert [constant(t) for t in steps] == [0.5, 0.5, 1.0, 1.0]
    assert constant_replacement(0.7, until=None)(10**6) == 0.7
    assert np.allclose([linear(t) for t in (0, 500, 1166, 1167)], [0.3, 0.6, 0.9996, 1])


def test_what_does_not_fit_is_told():
    old, new = pair()
    with pytest.raises(ValueError, match='layers=5: expected a number from 1 to 4'):
        truncate(old, 5)
    with pytest.raises(ValueError, match="layers='1': expected a number from 1 to 4"):
        truncate(old, '1')
    with pytest.raises(ValueError, match='predecessor is a keras.Model, .*Transformer'):
        bert_of_theseus(old.model, new)
    with pytest.raises(ValueError, match="head='dense': expected a layer"):
        bert_of_theseus(old, new, head='dense')
    with pytest.raises(ValueError, match='take 1 or 2'):
        bert_of_theseus(old, truncate(old, 3))
    with pytest.raises(ValueError, match="prefix='Predecessor-'"):
        bert_of_theseus(old, truncate(old, 2, prefix='Old-'))
    wider = build_transformer_model(
        CONFIG, num_hidden_layers=2, hidden_size=6, return_keras_model=False
    )
    with pytest.raises(ValueError, match='hidden_size=6'):
        bert_of_theseus(old, wider)
    with pytest.raises(ValueError, match='same inputs'):
        bert_of_theseus(old, truncate(old, 2, custom_position_ids=True))
    with pytest.raises(ValueError, match='no BinaryRandomChoice'):
        extract_successor(new.model)
    with pytest.raises(ValueError, match='leave out the options'):
        truncate(old, 2, vocab_size=30)
