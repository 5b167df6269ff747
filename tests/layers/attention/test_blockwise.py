"""What sees a fixed pattern of keys equals dense attention under that pattern."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import sparse_attention as slow

from keraseff.layers.attention.diag import Diag
from keraseff.layers.attention.local import Local
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.multi_head import MultiHeadAttention
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.attention.sparse import Atrous
from keraseff.layers.attention.sparse import Fixed
from keraseff.layers.attention.sparse import Sparse
from keraseff.layers.attention.sparse import Strided
from keraseff.layers.base import Layer
from keraseff.ops import blocks

# name: (the mechanism, its pattern of n and causality)
CASES = {
    'local': (lambda: Local(3), lambda n, c: slow.local(n, 3, c)),
    'local far': (lambda: Local(40), lambda n, c: slow.local(n, 40, c)),
    'itself': (lambda: Local(0), lambda n, c: slow.local(n, 0, c)),
    'sinks': (lambda: Local(2, sinks=3), lambda n, c: slow.local(n, 2, c, 3)),
    'atrous': (lambda: Atrous(3), lambda n, c: slow.atrous(n, 3, c)),
    'sparse': (lambda: Sparse(3), lambda n, c: slow.sparse(n, 3, 3, c)),
    'narrow': (lambda: Sparse(4, reach=1), lambda n, c: slow.sparse(n, 4, 1, c)),
    'wide': (lambda: Sparse(3, reach=7), lambda n, c: slow.sparse(n, 3, 7, c)),
    'strided': (lambda: Strided(5), lambda n, c: slow.sparse(n, 5, 5, c)),
    'fixed': (lambda: Fixed(4, c=1), lambda n, c: slow.fixed(n, 4, 1, c)),
    'columns': (lambda: Fixed(6, c=2), lambda n, c: slow.fixed(n, 6, 2, c)),
    'diag': (lambda: Diag(4), lambda n, c: slow.diag(n, 4, c)),
}
DISTINCT = ['local', 'sinks', 'atrous', 'narrow', 'columns', 'diag']


def drawn(rng, n, *sizes):
    return [rng.normal(size=(2, n, 2, d)).astype('float32') for d in sizes]


def called(mechanism, q, k, v, **mask):
    q, k, v = (ops.convert_to_tensor(x) for x in (q, k, v))
    return to_numpy(mechanism(q, k, v, where=Mask(**mask)))


def check_gradients(name, causal, rng):
    make, pattern = CASES[name]
    mechanism, n = make(), 71
    q, k, v, out = drawn(rng, n, 4, 4, 3, 3)
    padding = np.arange(n)[None] < np.array([[n], [n - 5]])
    # What stands at padded places is no one's business, so nothing is asked of it.
    real = padding[:, :, None, None]
    out = out * real

    def f(q, k, v, out):
        return ops.sum(mechanism(q, k, v, where=Mask(padding, causal)) * out)

    *slopes, found = gradients(f, q, k, v, out)
    seen = pattern(n, causal)
    assert_close(found * real, slow.attend(q, k, v, seen, padding) * real)
    expected = slow.attend_gradients(q, k, v, seen, out, padding)
    assert_close(slopes, expected, atol=3e-5)
    for slope in slopes[1:]:
        assert not slope[1, n - 5 :].any(), 'a masked key has no influence at all'


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('name', 'causal'),
    [
        ('sinks', False),
        ('atrous', True),
        ('narrow', True),
        ('columns', False),
        ('diag', True),
    ],
)
def test_gradients_on_every_backend(name, causal, rng):
    check_gradients(name, causal, rng)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('name', CASES)
def test_outputs_and_gradients_equal_the_masked_square(name, causal, rng):
    check_gradients(name, causal, rng)


@pytest.mark.parametrize(
    ('smallest', 'lengths'), [(1, (1, 2, 3, 5, 12, 13)), (32, (33, 64, 90))]
)
@pytest.mark.parametrize('name', CASES)
def test_every_length_is_right(name, smallest, lengths, rng, monkeypatch):
    monkeypatch.setattr(blocks, 'SMALLEST_BLOCK', smallest)
    make, pattern = CASES[name]
    for n in lengths:
        q, k, v = drawn(rng, n, 4, 4, 3)
        gaps = rng.random((2, n)) < 0.8
        gaps[:, 0] = True
        for causal in (False, True):
            for padding in (None, gaps):
                found = called(make(), q, k, v, padding=padding, causal=causal)
                expected = slow.attend(q, k, v, pattern(n, causal), padding)
                real = slice(None) if padding is None else padding
                assert_close(found[real], expected[real])


@pytest.mark.every_backend
@pytest.mark.parametrize('name', ['sinks', 'narrow', 'columns'])
def test_steps_equal_the_causal_call(name, rng):
    """The number of the step is a tensor in a compiled loop."""
    make, pattern = CASES[name]
    mechanism, n = make(), 20
    q, k, v = drawn(rng, n, 4, 4, 3)
    state = mechanism.start(2, n, 2, 4, 3)
    shapes = {key: x.shape for key, x in state.items()}

    def forward(t, carried):
        state, mixed = carried
        row = (ops.slice(x, (0, t, 0, 0), (2, 1, 2, x.shape[-1])) for x in (q, k, v))
        new, state = mechanism.step(*row, t, state)
        return state, ops.slice_update(mixed, (0, t, 0, 0), new)

    state, found = ops.fori_loop(0, n, forward, (state, ops.zeros((2, n, 2, 3))))
    assert_close(found, slow.attend(q, k, v, pattern(n, True)))
    assert {key: x.shape for key, x in state.items()} == shapes


@pytest.mark.parametrize('name', CASES)
def test_a_state_longer_or_shorter_than_the_pattern(name, rng):
    make, pattern = CASES[name]
    for n, length in ((2, 2), (13, 13), (9, 50)):
        mechanism = make()
        q, k, v = drawn(rng, n, 4, 4, 3)
        state = mechanism.start(2, length, 2, 4, 3)
        expected = slow.attend(q, k, v, pattern(n, True))
        for t in range(n):
            row = (ops.convert_to_tensor(x[:, t : t + 1]) for x in (q, k, v))
            mixed, state = mechanism.step(*row, t, state)
            assert_close(to_numpy(mixed)[:, 0], expected[:, t])


def test_the_state_of_a_step_is_as_small_as_the_pattern_allows():
    def slots(mechanism, length):
        state = mechanism.start(1, length, 1, 1, 1)
        return sum(x.shape[1] for key, x in state.items() if key.endswith('k'))

    assert slots(Local(16), 1000) == 17
    assert slots(Local(16, sinks=4), 1000) == 17 + 5
    assert slots(Diag(64), 1000) == 64
    assert slots(Fixed(50, c=2), 1000) == 50 + 2 * 20 + 1
    assert slots(Atrous(32), 1000) == slots(Sparse(32), 1000) == 1024


class Causal(Layer):
    """A mechanism alone."""

    def __init__(self, mechanism, **kwargs):
        super().__init__(**kwargs)
        self.mechanism = mechanism

    def call(self, q, k, v):
        return self.mechanism(q, k, v, where=Mask(causal=True))


@pytest.mark.every_backend
def test_unknown_batch_and_length(rng):
    names = ['sinks', 'narrow', 'columns']
    q, k, v = drawn(rng, 67, 4, 4, 3)
    symbols = [keras.Input((None, 2, x.shape[-1])) for x in (q, k, v)]
    mixed = [Causal(CASES[name][0]())(*symbols) for name in names]
    assert [x.shape for x in mixed] == [(None, None, 2, 3)] * len(names)
    model = keras.Model(symbols, mixed)
    found = model.predict([q, k, v], verbose=0)
    assert_close(found, [slow.attend(q, k, v, CASES[x][1](67, True)) for x in names])


@pytest.mark.parametrize('name', DISTINCT)
def test_contract_in_an_attention_layer(name):
    """The window of the pattern is smaller here than the text."""
    check_mechanism(CASES[name][0], 'rotary')


def check_unseen_rows(name, causal, rng):
    q, k, v = drawn(rng, 9, 4, 4, 3)
    padding = np.zeros((2, 9), bool)
    padding[1, 5:] = True  # where causal, the rows before them see nothing
    mechanism = CASES[name][0]()

    def f(q, k, v):
        return ops.sum(ops.square(mechanism(q, k, v, where=Mask(padding, causal))))

    for slope in gradients(f, q, k, v):
        assert np.isfinite(slope).all()
        assert slope[1, 5:].any()


@pytest.mark.every_backend
def test_rows_that_see_nothing_stay_finite_on_every_backend(rng):
    check_unseen_rows('narrow', True, rng)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('name', DISTINCT)
def test_rows_that_see_nothing_stay_finite(name, causal, rng):
    check_unseen_rows(name, causal, rng)


@pytest.mark.parametrize(
    'mechanism',
    [Local(9), Local(50, sinks=2), Atrous(1), Sparse(9), Strided(9), Fixed(9), Diag(9)],
    ids=lambda m: type(m).__name__,
)
def test_a_pattern_that_sees_all_is_softmax_attention(mechanism, rng):
    q, k, v = drawn(rng, 9, 4, 4, 3)
    for causal in (False, True):
        found = called(mechanism, q, k, v, causal=causal)
        assert_close(found, Softmax().call(q, k, v, Mask(causal=causal)))


@pytest.mark.parametrize('policy', ['mixed_float16', 'mixed_bfloat16'])
@pytest.mark.parametrize('name', ['sinks', 'narrow', 'diag'])
def test_half_precision(name, policy, rng):
    make, pattern = CASES[name]
    dtype = policy.removeprefix('mixed_')
    q, k, v = drawn(rng, 40, 4, 4, 3)
    q *= 8
    keras.config.set_dtype_policy(policy)
    mechanism = make()
    half = [ops.cast(x, dtype) for x in (q, k, v)]
    out = mechanism(*half, where=Mask(causal=True))
    assert keras.backend.standardize_dtype(out.dtype) == dtype
    rounded = [to_numpy(ops.cast(x, 'float32')) for x in half]
    expected = slow.attend(*rounded, pattern(40, True))
    assert_close(ops.cast(out, 'float32'), expected, atol=0.06, rtol=0.06)


def test_many_large_values_do_not_overflow_in_half_precision():
    keras.config.set_dtype_policy('mixed_float16')
    q = ops.zeros((1, 600, 1, 2), 'float16')
    v = ops.full((1, 600, 1, 2), 200, 'float16')  # together 120,000
    for mechanism in (Local(600), Sparse(1, reach=2), Fixed(600, c=300)):
        found = to_numpy(mechanism(q, q, v, where=Mask()))
        np.testing.assert_allclose(found, 200, rtol=2e-3)


def test_dropout_thins_the_weights_of_both_parts():
    mechanism = Sparse(4, dropout=0.5)
    n = 40
    q = np.random.default_rng(0).normal(size=(1, n, 1, 3)).astype('float32')
    v = np.eye(n, dtype='float32')[None, :, None]  # whose mixtures are the weights
    whole = called(mechanism, q, q, v)[0, :, 0]
    thinned = mechanism(
        *map(ops.convert_to_tensor, (q, q, v)), where=Mask(), training=True
    )
    thinned = to_numpy(thinned)[0, :, 0]
    kept = thinned > 0
    seen = slow.sparse(n, 4, 4)
    assert_close(thinned[kept], 2 * whole[kept])
    near = slow.local(n, 4)
    for part in (near, seen & ~near):
        assert 0.3 < kept[part].mean() < 0.7


def test_other_sequences_and_wrong_options_are_refused(rng):
    x = rng.normal(size=(1, 5, 8)).astype('float32')
    layer = MultiHeadAttention(2, 4, mechanism=Local(2))
    with pytest.raises(ValueError, match='Local mixes one sequence'):
        layer(x, x + 1)
    with pytest.raises(ValueError, match="reach='3' must be an integer of at least 0"):
        Local('3')
    with pytest.raises(ValueError, match='rate=0 must be an integer of at least 1'):
        Atrous(0)
    with pytest.raises(ValueError, match='c=9 columns are more than stride=8'):
        Fixed(8, c=9)


@pytest.mark.parametrize(
    ('mechanism', 'most'),
    [
        (Local(16), lambda n: n * 3 * 32),
        (Local(16, sinks=4), lambda n: n * (3 * 32 + 4)),
        (Local(128), lambda n: n * 3 * 128),
        (Diag(64), lambda n: n * 64),
        (Atrous(64), lambda n: n * n // 64),
        (Sparse(64), lambda n: n * 3 * 64),
        (Fixed(64, c=2), lambda n: n * 64 + n * n * 2 // 64),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize('causal', [False, True])
def test_no_tensor_is_a_square(mechanism, most, causal):
    torch = pytest.importorskip('torch')
    if keras.backend.backend() != 'torch':
        pytest.skip('tensors are watched on Torch')
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for x in keras.tree.flatten(out):
                if isinstance(x, torch.Tensor):
                    self.largest = max(self.largest, x.untyped_storage().nbytes())
            return out

    n = 4096
    q, k, v = (torch.randn(1, n, 1, 2, requires_grad=True) for _ in range(3))
    padding = torch.arange(n)[None] < n - 9
    with Watch() as watch:
        mechanism(q, k, v, where=Mask(padding, causal)).sum().backward()
    assert watch.largest <= 4 * most(n)
    assert most(n) <= n * n / 10
