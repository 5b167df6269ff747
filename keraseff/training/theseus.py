"""BERT-of-Theseus: a small model takes a large one's place, module by module.

    predecessor = build_transformer_model(
        config, checkpoint, return_keras_model=False, prefix='Predecessor-'
    )                                                   # with `head`, fine-tuned
    successor = truncate(predecessor, layers=3, prefix=None)
    model = bert_of_theseus(predecessor, successor, head)
    model.compile(...)
    model.fit(..., callbacks=[ReplacementScheduler(linear_replacement())])
    small = extract_successor(model)                    # to be fine-tuned alone

Xu et al., 2020, https://arxiv.org/abs/2002.02925; https://kexue.fm/archives/7575
"""

from contextlib import contextmanager

import keras

from keraseff.layers import BinaryRandomChoice
from keraseff.optimizers.arguments import check_number
from keraseff.training.arguments import check_transformer
from keraseff.training.layers import make_trainable
from keraseff.training.truncation import layers_of


def bert_of_theseus(
    predecessor,
    successor,
    head=None,
    rate=0.5,
    per_example=False,
    seed=None,
    train_head=False,
):
    """A model in which, while training, each module is the old or the new one.

    Args:
        predecessor: a built `Transformer` (not its `.model`), trained; it is frozen.
        successor: another from the same inputs to the same width, with fewer layers;
            see `truncate`.  Embeddings, each of its layers, and what either has behind
            them, are one module each.
        head: from the output to that of the model: a layer, a model or a function of
            layers.
        rate: the probability of the new module; `ReplacementScheduler` changes it.
        per_example: a draw for each row, not one for the batch.
        seed: of the draws.
        train_head: whether the head is trained as well; by default it is frozen.

    Returns an uncompiled `keras.Model`.  Outside training it is the successor with the
    head; `extract_successor` gives that alone.

    Raises ValueError if the two do not fit together.
    """
    check_transformer('predecessor', predecessor)
    check_transformer('successor', successor)
    check_number(least=0, rate=rate, most=1.0)
    if not (head is None or callable(head)):
        raise ValueError(
            f'head={head!r}: expected a layer, a model or a function of tensors, such '
            "as predecessor.model.get_layer('classifier')."
        )
    _check(predecessor, successor)
    draws = _Draws(rate, per_example, seed)
    with _laid_again(predecessor), _laid_again(successor):
        outputs = _mixed(predecessor, successor, successor.inputs, draws)
    model = keras.Model(successor.input, outputs if head is None else head(outputs))
    old, new = ({id(x) for x in t.model.layers} for t in (predecessor, successor))
    for layer in model.layers:
        if id(layer) not in new and not isinstance(layer, BinaryRandomChoice):
            layer.trainable = train_head and id(layer) not in old
    return model


def extract_successor(model):
    """The new modules and the head, without the old modules and the choices.

    Args:
        model: what `bert_of_theseus` returned, or a copy that was loaded from a file.

    Returns an uncompiled `keras.Model` of the same layers (the weights are shared), all
    of them trainable.  The weights alone are saved by the successor's own
    `save_weights_as_checkpoint`.
    """
    choices = _choices(model)

    def call(layer, *args, **kwargs):
        return args[0][1] if layer in choices else layer(*args, **kwargs)

    plain = keras.Model(model.input, model.output)  # uncompiled
    small = keras.models.clone_model(
        plain, clone_function=lambda layer: layer, call_function=call
    )
    make_trainable(small)
    return small


class ReplacementScheduler(keras.callbacks.Callback):
    """Sets the rate of replacement before each step.

    Args:
        schedule: takes the number of steps done, gives the rate; by default
            `linear_replacement()`.  A number from 0 to 1 is the rate of all steps.

    It counts on from the optimizer's steps, and so goes on where a training was broken
    off.  The rate is in the logs as `replacement_rate`.
    """

    def __init__(self, schedule=None):
        super().__init__()
        schedule = linear_replacement() if schedule is None else schedule
        if not callable(schedule):
            check_number(least=0, schedule=schedule, most=1.0)
        self.schedule = schedule if callable(schedule) else lambda step: schedule
        self.rate = None

    def on_train_begin(self, logs=None):
        """Find the choices, and the steps done before."""
        self._found = _choices(self.model)
        self._begun = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self._done = self._begun
        self.rate = None

    def on_epoch_begin(self, epoch, logs=None):
        """Count the epoch's steps from those of the epochs before."""
        self._begun = self._done

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rate if it is another."""
        rate = min(1.0, max(0.0, float(self.schedule(self._begun + batch))))
        if rate == self.rate:
            return
        if hasattr(self.model, 'jax_state_sync'):
            self.model.jax_state_sync()  # in `fit` JAX's variables are elsewhere
        for choice in self._found:
            choice.replacement.assign(rate)
        self.rate = rate

    def on_train_batch_end(self, batch, logs=None):
        """Count."""
        self._done = self._begun + batch + 1

    def on_epoch_end(self, epoch, logs=None):
        """Log the rate."""
        if logs is not None:
            logs['replacement_rate'] = self.rate


def constant_replacement(rate=0.5, until=2500):
    """A schedule: `rate` for so many steps, then 1, which trains the successor alone.

    Args:
        rate: from 0 to 1.
        until: number of steps; None goes on with `rate`.
    """
    check_number(least=0, rate=rate, most=1.0)
    return lambda step: rate if until is None or step < until else 1.0


def linear_replacement(begin=0.3, slope=6e-4):
    """A schedule: p = min(1, slope × step + begin)."""
    check_number(least=0, begin=begin, most=1.0)
    check_number(least=0, slope=slope)
    return lambda step: min(1.0, slope * step + begin)


class _Draws:
    """Makes the choices, each of which draws for itself."""

    def __init__(self, rate, per_example, seed):
        self.options = {'rate': rate, 'per_example': per_example}
        self.seed = seed

    def __call__(self, name, first, second):
        """One of two outputs, or of each pair where there are several."""
        firsts, seconds = keras.tree.flatten(first), keras.tree.flatten(second)
        chosen = []
        for k, pair in enumerate(zip(firsts, seconds, strict=True)):
            seed, self.seed = self.seed, None if self.seed is None else self.seed + 1
            layer = BinaryRandomChoice(
                **self.options, seed=seed, name=f'{name}-{k}' if k else name
            )
            chosen.append(layer(list(pair)))
        return keras.tree.pack_sequence_as(second, chosen)


def _mixed(old, new, inputs, choose, side=''):
    """Both graphs, with a choice behind each module."""
    if hasattr(new, 'decoder_class'):
        context = _mixed(old._encoder, new._encoder, inputs[:1], choose, 'Encoder-')
        return _mixed(
            old._decoder, new._decoder, [context, inputs[1]], choose, 'Decoder-'
        )
    name = f'{side}Replacement'
    before, after = old.apply_embeddings(inputs), new.apply_embeddings(inputs)
    x = choose(f'{name}-Embeddings', before, after)
    per_module = layers_of(old) // layers_of(new)
    for index in range(layers_of(new)):
        before = x
        for k in range(per_module):
            before = old.apply_main_layers(before, per_module * index + k)
        x = choose(f'{name}-{index}', before, new.apply_main_layers(x, index))
    before, after = old.apply_final_layers(x), new.apply_final_layers(x)
    if before is x and after is x:
        return x
    return choose(f'{name}-Final', before, after)


@contextmanager
def _laid_again(transformer):
    """A scope in which a transformer's graph is laid once more, beside its own."""
    parts = [getattr(transformer, name, None) for name in ('_encoder', '_decoder')]
    parts = [part for part in (transformer, *parts) if part is not None]
    kept = [dict(vars(part), attended=[*part.attended]) for part in parts]
    for part in parts:
        part._scores = part._cross_scores = None
    try:
        yield
    finally:
        for part, before in zip(parts, kept, strict=True):
            vars(part).clear()
            vars(part).update(before)


def _choices(model):
    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, BinaryRandomChoice)
    ]
    if not found:
        raise ValueError(
            f'{model.name!r} has no BinaryRandomChoice: it is no model that '
            'bert_of_theseus made.'
        )
    return found


def _check(old, new):
    """Raise for what would not fit."""
    pairs = [(old, new)]
    if hasattr(old, 'decoder_class') and hasattr(new, 'decoder_class'):
        pairs = [(old._encoder, new._encoder), (old._decoder, new._decoder)]
    for one, other in pairs:
        n, m = layers_of(one), layers_of(other)
        if not m or n % m:
            fit = [str(k) for k in range(1, n) if n % k == 0]
            raise ValueError(
                f'the successor has {m} layers, the predecessor {n}: each new layer '
                f'replaces as many old ones, so take {" or ".join(fit) or n}.'
            )
    if old.hidden_size != new.hidden_size:
        raise ValueError(
            f'the successor has hidden_size={new.hidden_size}, the predecessor '
            f'{old.hidden_size}; modules that take turns must agree in it.'
        )
    names = [[_bare(t, x.name) for x in t.inputs] for t in (old, new)]
    if names[0] != names[1]:
        raise ValueError(
            f'the predecessor takes {names[0]}, the successor {names[1]}; they must '
            'have the same inputs.'
        )
    _check_names(old, new)


def _check_names(old, new):
    shared = [
        name
        for name, layer in old.layers.items()
        if new.layers.get(name, layer) is not layer
        and not isinstance(layer, keras.KerasTensor)
    ]
    if shared:
        raise ValueError(
            f'{len(shared)} layers bear the same name in both, such as {shared[0]!r}; '
            "build the predecessor with prefix='Predecessor-'."
        )


def _bare(transformer, name):
    return name.removeprefix(transformer.prefix or '')
