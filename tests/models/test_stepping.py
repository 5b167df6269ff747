"""A model that goes step by step says what it says of the whole text."""

import numpy as np
import pytest
from compiling import compiled
from harness import MECHANISM_OPTIONS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import randomise
from harness import to_numpy
from keras import ops

from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import POSITIONS
from keraseff.models import build_transformer_model

POSITION_OPTIONS = {
    'leaky_rerope': {'window': 3, 'leak': 2},
    'rerope': {'window': 3},
    'rotary_2d': {'width': 3},
    'self_extend': {'window': 4, 'group': 2},
}
CAUSAL = [
    *(name for name, kind in MECHANISMS.items() if kind.can_be_causal),
    *(name for name, kind in MIXERS.items() if getattr(kind, 'can_be_causal', True)),
]


def stepped(transformer, inputs):
    """The model's output, from one token at a time."""
    batch, length = inputs[0].shape
    state = transformer.start(batch, length)
    rows = []
    for t in range(length):
        row, state = transformer.step([x[:, t : t + 1] for x in inputs], t, state)
        rows.append(to_numpy(row))
    return np.concatenate(rows, axis=1)


def check(family, rng, **options):
    transformer = build_transformer_model(
        SMALL | {'hidden_act': 'silu'},
        model=family,
        return_keras_model=False,
        **options,
    )
    randomise(transformer.model)
    ids = rng.integers(1, 20, (2, 7))
    inputs = [ids if 'Token' in i.name else ids % 2 for i in transformer.model.inputs]
    whole = called(transformer.model, inputs if len(inputs) > 1 else ids)
    assert_close(stepped(transformer, inputs), whole, atol=2e-5, rtol=1e-4)
    return whole


@pytest.mark.parametrize('name', sorted(CAUSAL))
def test_each_mechanism(name, rng):
    check('llama', rng, attention=name, attention_options=MECHANISM_OPTIONS.get(name))


@pytest.mark.parametrize('name', sorted(set(POSITIONS) - {'dynamic'}))
def test_each_position(name, rng):
    options = POSITION_OPTIONS.get(name)
    if name in ('pi', 'ntk', 'ntk_fixed', 'ntk_mixed', 'ntk_by_parts', 'yarn'):
        options = {'factor': 4, 'max_position': 4}
    check('llama', rng, position=name, position_options=options)


@pytest.mark.parametrize(
    ('family', 'options'),
    [
        ('bert', {'application': 'lm'}),
        ('roformer', {'application': 'lm', 'attention': 'linear'}),
        ('nezha', {'application': 'lm', 'residual_attention_scores': True}),
        ('albert', {'application': 'lm'}),
        ('gau_alpha', {'application': 'lm'}),
        ('gau_alpha', {'application': 'lm', 'attention': 'linear'}),
        ('gpt', {}),
        ('gpt2', {'logn': 3}),
        ('gpt2_ml', {}),
        ('mistral', {'sliding_window': 2, 'num_key_value_heads': 1}),
        ('qwen3', {'window': 3, 'sinks': 1}),
    ],
)
def test_each_family(family, options, rng):
    check(family, rng, **options)


@pytest.mark.every_backend
def test_a_step_is_compiled_once_for_all_steps(rng):
    """The number of the step may be a tensor; the state keeps its shapes."""
    attention = ['local', {'reach': 2}]
    transformer = build_transformer_model(
        SMALL,
        model='gpt2',
        attention=attention[0],
        attention_options=attention[1],
        return_keras_model=False,
    )
    randomise(transformer.model)
    ids = rng.integers(1, 20, (2, 5))

    def all_steps(ids):
        state = transformer.start(2, 5)

        def one(t, carried):
            rows, state = carried
            token = ops.slice(ids, (0, t), (2, 1))
            row, state = transformer.step(token, t, state)
            return ops.slice_update(rows, (0, t, 0), row), state

        rows = ops.zeros((2, 5, 20))
        return ops.fori_loop(0, 5, one, (rows, state))[0]

    whole = called(transformer.model, ids)
    assert_close(compiled(all_steps, ids), whole, atol=2e-5, rtol=1e-4)


def test_what_cannot_go_step_by_step_says_so():
    def refused(match, model, **options):
        built = build_transformer_model(
            SMALL, model=model, return_keras_model=False, **options
        )
        with pytest.raises(ValueError, match=match):
            built.start(1, 8)

    refused('is not causal', 'bert')
    refused('cannot go step by step', 't5')
    refused('keeps no keys', 'llama', attention='linear', position='xpos')


def test_states_of_another_model_and_steps_beyond_the_room_are_refused():
    def made(**options):
        return build_transformer_model(
            SMALL, model='gpt2', return_keras_model=False, **options
        )

    linear, softmax = made(attention='linear'), made()
    state, ids = linear.start(2, 3), np.ones((2, 1), 'int32')
    with pytest.raises(ValueError, match='step 3 is outside of the 3 steps'):
        linear.step(ids, 3, state)
    with pytest.raises(ValueError, match='that of another layer'):
        softmax.step(ids, 0, state)
    for foreign in (state[:1], [], [None, None]):
        with pytest.raises(ValueError, match='of another model'):
            linear.step(ids, 0, foreign)


@pytest.mark.parametrize(
    ('family', 'options', 'most'),
    [('gpt2', {}, 8), ('bert', {'hierarchical_position': True}, 64)],
)
def test_no_more_steps_than_positions(family, options, most):
    transformer = build_transformer_model(
        SMALL, model=family, application='lm', return_keras_model=False, **options
    )
    assert len(transformer.start(1, most)) == 2
    match = f'{most + 1} steps is longer than the {most} positions'
    with pytest.raises(ValueError, match=match):
        transformer.start(1, most + 1)


@pytest.mark.parametrize('application', ['encoder', 'unilm'])
def test_what_sees_later_steps_cannot_start(application):
    transformer = build_transformer_model(
        SMALL, model='bert', application=application, return_keras_model=False
    )
    with pytest.raises(ValueError, match=f"'{application}'.*application='lm'"):
        transformer.start(1, 4)
