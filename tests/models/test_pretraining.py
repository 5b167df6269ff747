import keras
import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import randomise
from harness import save_and_reopen
from keras import ops

from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables
from keraseff.models.pretraining import at_places

IDS = np.array([[2, 5, 6, 3, 7, 8], [2, 9, 3, 4, 1, 3]], 'int32')
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]], 'int32')
PLACES = np.array([[1, 4], [3, 0]], 'int32')


def pair(name, **options):
    """The model of a family that scores everything, and the one of some places."""
    options = dict(with_mlm='linear', return_keras_model=False, **options)
    whole = build_transformer_model(SMALL, model=name, **options)
    some = build_transformer_model(SMALL, model=at_places(MODELS[name]), **options)
    randomise(whole.model)
    some.model.set_weights(whole.model.get_weights())
    return whole, some


def at(scores):
    return np.take_along_axis(ops.convert_to_numpy(scores), PLACES[:, :, None], 1)


FAMILIES = ['bert', 'albert', 'nezha', 'roformer', 'roformer_v2', 'gau_alpha']


@pytest.mark.parametrize('name', FAMILIES)
def test_scores_are_those_of_the_whole_model(name):
    whole, some = pair(name)
    assert list(named_variables(some)) == list(named_variables(whole))
    inputs = [IDS, SEGMENTS][: len(whole.inputs)]
    assert some.model.inputs[-1].name == 'Input-Places'
    found = some.model([*inputs, PLACES])
    assert found.shape == (2, 2, SMALL['vocab_size'])
    assert_close(found, at(whole.model(inputs if len(inputs) > 1 else inputs[0])))


@pytest.mark.every_backend
def test_it_learns_the_same_and_saves_the_same(tmp_path):
    whole, some = pair('roformer')
    labels = np.array([[5, 7], [4, 2]], 'int32')
    # the loss of the whole model, weighted 0 but at the places, is of the same sum
    everywhere, weights = np.zeros_like(IDS), np.zeros(IDS.shape, 'float32')
    np.put_along_axis(everywhere, PLACES, labels, 1)
    np.put_along_axis(weights, PLACES, 1, 1)
    rows = (
        (whole.model, [IDS, SEGMENTS], everywhere, weights),
        (some.model, [IDS, SEGMENTS, PLACES], labels, np.ones((2, 2), 'float32')),
    )
    for model, x, y, weight in rows:
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction='mean_with_sample_weight'
        )
        model.compile(keras.optimizers.SGD(0.5), loss)
        model.fit(x, y, sample_weight=weight, epochs=2, shuffle=False, verbose=0)
    assert_close(some.model.get_weights(), whole.model.get_weights())
    for transformer, file in ((whole, 'a'), (some, 'b')):
        transformer.save_weights_as_checkpoint(tmp_path / f'{file}.safetensors')
    first, second = ((tmp_path / f'{f}.safetensors').stat().st_size for f in 'ab')
    assert first == second
    encoder = build_transformer_model(
        SMALL, tmp_path / 'b.safetensors', model='roformer', with_mlm='linear'
    )
    assert_close(encoder([IDS, SEGMENTS]), whole.model([IDS, SEGMENTS]), atol=1e-4)
    again = save_and_reopen(some.model)
    inputs = [IDS, SEGMENTS, PLACES]
    assert_close(again(inputs), some.model(inputs))
