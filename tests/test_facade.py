"""bert4keras' import paths, and the old backend functions behind `K`."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy

PATHS = {
    'models': ['build_transformer_model'],
    'layers': [
        'ConditionalRandomField', 'EfficientGlobalPointer', 'GlobalPointer',
        'LayerNormalization', 'Loss',
    ],
    'tokenizers': ['Tokenizer', 'load_vocab'],
    'snippets': [
        'DataGenerator', 'ViterbiDecoder', 'open', 'sequence_padding', 'to_array',
        'parallel_apply', 'parallel_apply_generator', 'text_segmentate',
        'truncate_sequences',
    ],
    'backend': [
        'K', 'batch_gather', 'keras', 'multilabel_categorical_crossentropy',
        'set_gelu', 'sparse_multilabel_categorical_crossentropy',
    ],
}  # fmt: skip


@pytest.mark.parametrize('module', sorted(PATHS))
def test_a_script_of_bert4keras_finds_its_names(module):
    code = f'from keraseff.{module} import {", ".join(PATHS[module])}'
    found = {}
    exec(code, found)
    assert set(PATHS[module]) <= set(found)


def test_facades_only_re_export():
    import ast

    from conftest import ROOT

    for name in ('backend', 'snippets'):
        tree = ast.parse((ROOT / 'keraseff' / f'{name}.py').read_text())
        for node in tree.body[1:]:
            allowed = (ast.Import, ast.ImportFrom, ast.Assign)
            assert isinstance(node, allowed), ast.unparse(node)


def test_old_backend_functions(rng):
    from keraseff.backend import K

    x = rng.normal(size=(2, 3, 4)).astype('float32')
    y = rng.normal(size=(2, 4, 5)).astype('float32')
    t, u = K.constant(x), K.constant(y)
    assert_close(K.sum(t, axis=-1), x.sum(-1))
    assert_close(K.permute_dimensions(t, (0, 2, 1)), x.transpose(0, 2, 1))
    assert_close(K.gather(t, [1, 0]), x[[1, 0]])
    assert_close(K.batch_dot(t, u), x @ y, atol=1e-5)
    expected = np.einsum('bij,bkj->bik', x, x)
    assert_close(K.batch_dot(t, t, axes=2), expected, atol=1e-5)
    assert_close(K.flatten(t), x.reshape(-1))
    assert_close(K.flatten(t, 1), x.reshape(2, -1))
    assert_close(K.l2_normalize(t, -1), x / np.linalg.norm(x, axis=-1, keepdims=True))
    assert_close(K.repeat_elements(t, 2, 1), x.repeat(2, 1))
    assert_close(K.temporal_padding(t, (1, 2)), np.pad(x, ((0, 0), (1, 2), (0, 0))))
    assert_close(K.logsumexp(t, axis=-1), np.log(np.exp(x).sum(-1)), atol=1e-5)
    assert (K.int_shape(t), K.ndim(t), K.dtype(t)) == ((2, 3, 4), 3, 'float32')
    variable = K.variable(x)
    K.set_value(variable, x * 2)
    K.update_add(variable, t)
    assert_close(K.get_value(variable), x * 3)
    K.batch_set_value([(variable, x)])
    assert_close(K.batch_get_value([variable]), [x])
    drawn = to_numpy(K.random_uniform((4000,), 2, 3, seed=1))
    assert drawn.min() >= 2
    assert abs(drawn.mean() - 2.5) < 0.05
    assert abs(to_numpy(K.random_binomial((4000,), 0.3, seed=1)).mean() - 0.3) < 0.05
    with pytest.raises(
        AttributeError, match='gone in Keras 3; use override train_step'
    ):
        K.gradients  # noqa: B018
    with pytest.raises(AttributeError, match='unknown'):
        K.no_such_thing  # noqa: B018
