"""bert4keras' import paths, and the old backend functions behind `K`."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy

PATHS = {
    'models': ['build_transformer_model', 'data_parallel'],
    'layers': [
        'ConditionalRandomField', 'EfficientGlobalPointer', 'GlobalPointer',
        'LayerNormalization', 'Loss',
    ],
    'tokenizers': ['SpTokenizer', 'Tokenizer', 'load_vocab', 'save_vocab'],
    'optimizers': [
        'Adam', 'AdaFactor', 'Lion', 'extend_with_weight_decay',
        'extend_with_layer_adaptation', 'extend_with_piecewise_linear_lr',
        'extend_with_gradient_accumulation', 'extend_with_lookahead',
        'extend_with_lazy_optimization', 'extend_with_parameter_wise_lr',
        'extend_with_exponential_moving_average',
    ],
    'snippets': [
        'DataGenerator', 'ViterbiDecoder', 'open', 'sequence_padding', 'to_array',
        'parallel_apply', 'parallel_apply_generator', 'text_segmentate',
        'truncate_sequences',
    ],
    'backend': [
        'K', 'batch_gather', 'keras', 'multilabel_categorical_crossentropy',
        'piecewise_linear', 'search_layer', 'set_gelu',
        'sparse_multilabel_categorical_crossentropy',
    ],
}  # fmt: skip


@pytest.mark.parametrize('module', sorted(PATHS))
def test_a_script_of_bert4keras_finds_its_names(module):
    code = f'from keraseff.{module} import {", ".join(PATHS[module])}'
    found = {}
    exec(code, found)
    assert set(PATHS[module]) <= set(found)


def test_the_twins_of_tf_keras_are_the_same():
    from keraseff import optimizers

    twins = {n: n.removesuffix('_v2') for n in dir(optimizers) if n.endswith('_v2')}
    assert len(twins) == 8
    for twin, name in {**twins, 'AdaFactorV2': 'AdaFactor'}.items():
        assert getattr(optimizers, twin) is getattr(optimizers, name)
        assert twin in optimizers.__all__


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
    with pytest.raises(AttributeError, match='gone in Keras 3: override train_step'):
        K.gradients  # noqa: B018
    with pytest.raises(AttributeError, match='unknown'):
        K.no_such_thing  # noqa: B018


@pytest.mark.every_backend
def test_a_script_written_for_bert4keras_trains(rng):
    """The idioms of its named-entity scripts, with only the import changed."""
    from keraseff.backend import K
    from keraseff.backend import keras
    from keraseff.backend import multilabel_categorical_crossentropy
    from keraseff.layers import GlobalPointer
    from keraseff.models import build_transformer_model
    from keraseff.snippets import DataGenerator
    from keraseff.snippets import sequence_padding
    from keraseff.snippets import to_array
    from keraseff.tokenizers import Tokenizer

    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', *'北京大学在哪里上海人']
    tokenizer = Tokenizer({w: i for i, w in enumerate(words)}, do_lower_case=True)
    rows = [('北京大学在哪里', (0, 1)), ('在上海', (1, 2)), ('北京人', (0, 1))] * 8

    class data_generator(DataGenerator):  # noqa: N801
        def __iter__(self, random=False):
            tokens, segments, labels = [], [], []
            for is_end, (text, (start, end)) in self.sample(random):
                token_ids, segment_ids = tokenizer.encode(text, maxlen=16)
                label = np.zeros((1, len(token_ids), len(token_ids)))
                label[0, start + 1, end + 1] = 1
                tokens.append(token_ids)
                segments.append(segment_ids)
                labels.append(label)
                if len(tokens) == self.batch_size or is_end:
                    tokens = sequence_padding(tokens)
                    segments = sequence_padding(segments)
                    labels = sequence_padding(labels, seq_dims=3)
                    yield [tokens, segments], labels
                    tokens, segments, labels = [], [], []

    def global_pointer_crossentropy(y_true, y_pred):
        bh = K.prod(K.shape(y_pred)[:2])
        y_true = K.reshape(y_true, (bh, -1))
        y_pred = K.reshape(y_pred, (bh, -1))
        return K.mean(multilabel_categorical_crossentropy(y_true, y_pred))

    def global_pointer_f1_score(y_true, y_pred):
        y_true = K.cast(y_true, K.floatx())
        y_pred = K.cast(K.greater(y_pred, 0), K.floatx())
        return 2 * K.sum(y_true * y_pred) / K.sum(y_true + y_pred)

    config = {
        'vocab_size': len(words),
        'hidden_size': 24,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
        'intermediate_size': 32,
    }
    model = build_transformer_model(config, model='roformer')
    output = GlobalPointer(1, 8)(model.output)
    model = keras.models.Model(model.input, output)
    model.compile(
        loss=global_pointer_crossentropy,
        optimizer=keras.optimizers.Adam(1e-2),
        metrics=[global_pointer_f1_score],
    )
    train = data_generator(rows, 8)
    history = model.fit(
        train.forfit(), steps_per_epoch=len(train), epochs=8, verbose=0, shuffle=False
    )
    assert history.history['global_pointer_f1_score'][-1] > 0.9
    token_ids, segment_ids = tokenizer.encode('上海人在哪里')
    scores = model.predict(to_array([token_ids], [segment_ids]), verbose=0)[0]
    found = [(i - 1, j - 1) for _, i, j in zip(*np.where(scores > 0), strict=True)]
    assert (0, 1) in found
