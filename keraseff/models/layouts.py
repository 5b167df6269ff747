"""Which axis of each weight is split when a model is spread over devices.

Matrices that make wider things (queries, keys, values, the inner layer, scores of
tokens) are split by columns, those that take them back by rows, so that devices talk
once after each pair.  Shoeybi et al., 2019, https://arxiv.org/abs/1909.08053
"""

import re

from keraseff.backends import distribution

_WIDENS = r'(query|key|value|intermediate(_\d+)?|i_dense)'
_NARROWS = r'(output|o_dense)'
_OUTPUTS = r'(MLM-Decoder|Output-LM)'
# The end of a variable's path -> its axes, of which the first that comes out even is
# split; what is not here is whole on each device.
SPLITS = {
    rf'{_WIDENS}/kernel': (1, 0),
    rf'{_WIDENS}/bias': (0,),
    rf'{_NARROWS}/kernel': (0, 1),
    r'Embedding-Token/embeddings': (0, 1),
    r'Embedding-Token/projection': (1, 0),
    r'Embedding-Mapping/kernel': (1, 0),
    rf'{_OUTPUTS}/kernel': (1, 0),
    r'MLM-Bias/beta': (0,),
    r'(MLM|Pooler)-Dense/kernel': (1, 0),
}
_SPLITS = [(re.compile(f'(^|[/-])({end})$'), axes) for end, axes in SPLITS.items()]


def split_axis(path, shape, shards):
    """The axis of a variable that is split over `shards` devices, or None.

    Args:
        path: of the variable, such as 'Transformer-0-FeedForward/output/kernel'.
        shape: a tuple.
        shards: number of devices that share a matrix.
    """
    axes = next((axes for end, axes in _SPLITS if end.search(path)), ())
    return next((a for a in axes if a < len(shape) and shape[a] % shards == 0), None)


def data_parallel(model, devices=None, parts=None):
    """bert4keras' name: spread each batch over devices, for the rest of the program.

    Args:
        model: a built `keras.Model`, compiled or not.
        devices: a list of names, a number, or None for all there are.
        parts: the number of parts of a batch, one for each device; parts of different
            sizes the frameworks do not have.

    Returns the model itself.  Raises ValueError for other parts.

    More of the kind is in `keraseff.training.distribution`.
    """
    devices = distribution.devices(devices)
    equal = parts is None or parts == len(devices)
    if not equal and not isinstance(parts, int):
        equal = len(parts) == len(devices) and len({*parts}) == 1
    if not equal:
        raise ValueError(
            f'parts={parts!r}: each of the {len(devices)} devices gets an equal part '
            'of a batch; leave parts out.'
        )
    made = distribution.make('data', devices)
    distribution.use(made)
    distribution.move(model, made)
    return model
