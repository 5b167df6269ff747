"""The base of all families: a graph laid in three strokes, each layer by its name."""

import dataclasses

import keras

from keraseff.checkpoints import expand
from keraseff.initializers import TruncatedNormal
from keraseff.initializers import fresh
from keraseff.initializers import unfilled
from keraseff.layers import Add
from keraseff.layers import FeedForward
from keraseff.layers import LayerNormalization
from keraseff.layers.dropout import Dropout
from keraseff.models.application import APPLICATIONS
from keraseff.models.application import UniLMMask
from keraseff.models.attention_parts import AttentionParts
from keraseff.models.config import Config
from keraseff.models.config import make_config
from keraseff.models.config import renamed
from keraseff.models.loading import load_weights
from keraseff.models.saving import save_weights
from keraseff.models.stepping import Stepping


class Transformer:
    """Builds a Keras model from a config; a family is a subclass of attributes.

    Args:
        options: what a config file holds, with bert4keras' spellings; unknown keys are
            skipped.
        application: 'encoder', 'lm' (no step sees a later one) or 'unilm' (segment 1
            does not see its own future); both of the latter put the MLM head on.
        keywords: options that override the file's; see `Config`.  Unknown ones raise.

    What varies between families is said by class attributes:

        embeddings: which of token, segment, position are summed.
        position, position_name: None, or a class of `Position` and its layer's name.
        causal: no step sees a later one, whatever the application.
        pre_norm: the normalisation stands before a layer, not after its sum.
        norm_arguments, attention_arguments: more arguments of `LayerNormalization` and
            of `MultiHeadAttention`.
        use_bias, epsilon, mlm_epsilon: of all layers.
        heads: which of pool, nsp, mlm, lm it may bear.
        adds_positions: it can add vectors of positions to those of the tokens.
        reads_padding: believe a file's pad_token_id.  Those of Chinese BERTs often say
            1 where the vocabulary has [PAD] at 0, as bert4keras takes it.
        config_class, aliases, defaults: its options, other spellings of them, and what
            it assumes where a file says nothing.
        names: its checkpoint tables, `model_prefixes`: what may be missing before a
            name, `alternatives`: other names of a tensor, tried first, `ignored`: a
            pattern of tensors that are not its weights.

    The graph is laid by `apply_embeddings`, `apply_main_layers(x, i)` and
    `apply_final_layers`; a subclass overrides one only where the graph itself differs.

    Attributes after `build`: `model`, `inputs`, `outputs`, `input`, `output`, `layers`
    (by name), and every field of the config.
    """

    embeddings = ('token', 'segment', 'position')
    position = None
    position_name = None
    causal = False
    pre_norm = False
    norm_arguments = {}
    attention_arguments = {}
    use_bias = True
    epsilon = 1e-12
    mlm_epsilon = 1e-12
    heads = ('pool', 'nsp', 'mlm')
    reads_padding = False
    adds_positions = True
    config_class = Config
    aliases = {}
    defaults = {}
    names = {}
    model_prefixes = ()
    alternatives = {}
    ignored = None

    def __init__(self, options=None, application='encoder', **keywords):
        if application not in APPLICATIONS:
            raise ValueError(
                f'application={application!r} is unknown; there are: '
                f'{", ".join(APPLICATIONS)}.'
            )
        options = self.translate(options or {})
        self.refuse(options)
        self.config = make_config(
            self.defaults | options, keywords, self.config_class, self.aliases
        )
        self.application = application
        for field in dataclasses.fields(self.config):
            setattr(self, field.name, getattr(self.config, field.name))
        self.layers = {} if self.layers is None else self.layers
        self._check_heads()
        if application == 'unilm':
            self.causal = False
        elif application == 'lm':
            self.causal = True
        if application != 'encoder' and 'mlm' in self.heads and not self.with_mlm:
            self.with_mlm = True
        if self.keep_tokens is not None:
            self.vocab_size = len(self.keep_tokens)
        if self.compound_tokens is not None:
            self.vocab_size += len(self.compound_tokens)
        if self.layer_norm_eps is not None:
            self.epsilon = self.mlm_epsilon = self.layer_norm_eps
        self._scores = self._dense = self._p = None
        self._to_load = frozenset()
        self.stepping, self.attended = None, []
        self.attention_parts = AttentionParts(self)
        self.position = self.attention_parts.position

    @classmethod
    def variant(cls, options):
        """The class that a file's options ask for, where a family has several."""
        return cls

    def translate(self, options):
        """A file's options under our spellings; a family may derive one from others."""
        fields = {field.name for field in dataclasses.fields(self.config_class)}
        options = renamed(options, self.aliases, fields)
        if not self.reads_padding:
            options.pop('pad_token_id', None)
        return {key: value for key, value in options.items() if value is not None}

    def refuse(self, options):
        """Raise for a file's options that would give another model than this family."""

    def _check_heads(self):
        for head in ('pool', 'nsp', 'mlm'):
            if getattr(self, f'with_{head}') and head not in self.heads:
                known = ', '.join(f'with_{name}' for name in self.heads) or 'none'
                raise ValueError(
                    f'{type(self).__name__} has no head with_{head}; it has: {known}.'
                )

    @property
    def scores_tokens(self):
        """Whether a head gives a score for each token of the vocabulary."""
        return bool(self.with_mlm or getattr(self, 'with_lm', False))

    # The graph

    def build(self):
        """Lay the graph and make `model`."""
        inputs = self.get_inputs()
        outputs = self.call(inputs)
        extra = self.additional_input_layers
        if extra is not None:
            inputs = inputs + (
                list(extra) if isinstance(extra, list | tuple) else [extra]
            )
        self.inputs = inputs
        self.input = inputs[0] if len(inputs) == 1 else inputs
        self.outputs = outputs if isinstance(outputs, list) else [outputs]
        self.output = outputs
        self.model = keras.Model(self.input, self.output, name=self.name)

    def call(self, inputs):
        """Embeddings, blocks, heads."""
        x = self.apply_embeddings(inputs)
        for index in range(self.num_hidden_layers):
            x = self.apply_main_layers(x, index)
        return self.apply_final_layers(x)

    def get_inputs(self):
        """The model's inputs, int32 (b, n) each: tokens, segments, positions."""
        raise NotImplementedError

    def apply_embeddings(self, inputs):
        """Ids to the sequence that the first block receives."""
        raise NotImplementedError

    def apply_main_layers(self, x, index):
        """One block: attention, then feed-forward, each with its residual."""
        name = f'Transformer-{index}'
        x = self.residual(x, f'{name}-MultiHeadSelfAttention', self.attend)
        return self.residual(x, f'{name}-FeedForward', self.feed_forward)

    def apply_final_layers(self, x):
        """The heads."""
        raise NotImplementedError

    def attend(self, x, name):
        """Self-attention, with residual scores where asked for."""
        if self.stepping is not None:
            return self.stepping.attend(x, self.apply(name=name))
        self.attended.append(name)
        arguments = {'p': self._p, 'dense': self._dense, 'residual': self._scores}
        positioned = self.attention_parts.position is not None
        out, self._scores = self.attention_layer(
            x, name, arguments, positioned, self.causal
        )
        return out

    def attention_layer(self, x, name, arguments, positioned, causal=False):
        """Attention of the model's sizes, or what `attention` puts in its place.

        Args:
            arguments: of its call; those that are None are left out.
            positioned: whether it takes positions, `p` among the arguments.
            causal: no query sees a later key.

        Returns:
            The sequence, and the scores where they are to be summed, else None.
        """
        return self.attention_parts.apply(x, name, arguments, positioned, causal)

    def position_arguments(self):
        """The arguments of the position class, in the graph and in attention alike."""
        return {'head_size': self.attention_key_size}

    def feed_forward(self, x, name):
        """The position-wise network."""
        return self.apply(
            x,
            FeedForward,
            units=self.intermediate_size,
            activation=self.hidden_act,
            use_bias=self.use_bias,
            kernel_initializer=self.initializer,
            name=name,
        )

    def residual(self, x, name, layer):
        """x + layer(x), normalised after the sum, or before the layer if `pre_norm`.

        The only place that knows where a block's normalisation stands.
        """
        inner = self.norm(x, f'{name}-Norm') if self.pre_norm else x
        inner = self.dropout(layer(inner, name), f'{name}-Dropout')
        x = self.apply([x, inner], Add, name=f'{name}-Add')
        return x if self.pre_norm else self.norm(x, f'{name}-Norm')

    def norm(self, x, name, epsilon=None):
        """The family's normalisation, conditional if the model is."""
        cond = self.layer_norm_cond
        return self.apply(
            x,
            LayerNormalization,
            arguments={} if cond is None else {'cond': cond},
            epsilon=self.epsilon if epsilon is None else epsilon,
            conditional=cond is not None,
            hidden_units=self.layer_norm_cond_hidden_size,
            hidden_activation=self.layer_norm_cond_hidden_act,
            hidden_initializer=self.initializer,
            name=name,
            **self.norm_arguments,
        )

    def dropout(self, x, name):
        """Dropout, or nothing at all where the rate is 0."""
        if not self.dropout_rate:
            return x
        return self.apply(x, Dropout, rate=self.dropout_rate, name=name)

    def unilm_mask(self, segment_ids):
        """Make the mask of 'unilm' once, for all blocks."""
        if self.application == 'unilm':
            self._dense = self.apply(
                segment_ids, UniLMMask, name='Attention-UniLM-Mask'
            )

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        """Call the layer of that name, making it first if there is none yet.

        Args:
            inputs: what it is called with; None returns the layer itself.
            layer: its class.
            arguments: keyword arguments of the call.
            kwargs: keyword arguments of the constructor, among them `name`; not looked
                at where the layer exists, which is how weights are shared.
        """
        name = self.prefixed(kwargs['name'])
        if name not in self.layers:
            initializer = kwargs.get('kernel_initializer')
            if initializer is not None:
                kwargs['kernel_initializer'] = fresh(initializer)
            if self.dtype is not None:
                kwargs.setdefault('dtype', self.dtype)
            self.layers[name] = layer(**{**kwargs, 'name': name})
        if inputs is None:
            return self.layers[name]
        # Not a conditional normalisation: no file has what it makes of the condition.
        given = 'hidden_initializer' not in kwargs and kwargs['name'] in self._to_load
        with unfilled(given):
            return self.layers[name](inputs, **(arguments or {}))

    def prefixed(self, name):
        """A layer's name with the model's prefix before it."""
        return f'{self.prefix or ""}{name}'

    @property
    def initializer(self):
        """A normal distribution cut at two deviations, of `initializer_range`."""
        return TruncatedNormal(stddev=self.initializer_range)

    # One step at a time

    def start(self, batch, length):
        """The state before the first step, for `step`.

        Args:
            batch: number of texts.
            length: the most steps that will come.

        Raises:
            ValueError: a layer is not causal, or cannot go step by step.
        """
        return Stepping.begin(self, batch, length)

    def step(self, inputs, t, state):
        """What the model says after step t, from that step's tokens alone.

        All of a text's tokens count, those of padding as well: texts of one batch that
        are not equally long are padded behind, and read no further.

        Args:
            inputs: (b, 1) integers for each of the model's inputs but positions; a list
                where there are several.
            t: the number of the step, from 0; an int or a scalar tensor.
            state: what `start` or the step before returned, a list of dicts of tensors.

        Returns:
            Row t of the model's output, (b, 1, v), and the state for the next step,
            whose size does not change.
        """
        self.stepping, self._scores = Stepping(self, t, state), None
        try:
            out = self.call(self.stepping.inputs(inputs))
            return out, self.stepping.after
        finally:
            self.stepping = self._scores = None

    # Weights

    def table(self, dialect):
        """{'Layer/variable': tensor} for all layers, in a dialect of checkpoints.

        Raises:
            ValueError: the family has no names for it.
        """
        if dialect not in self.names:
            raise ValueError(
                f'{type(self).__name__} has no names for {dialect} files; it knows '
                f'those of {", ".join(self.names)}.'
            )
        return expand(self.names[dialect], self.num_hidden_layers)

    def tensor_names(self, tensor):
        """All names that a tensor of the table goes by in files, likeliest first."""
        names = [*self.alternatives.get(tensor, ()), tensor]
        for prefix in self.model_prefixes:
            names += [n[len(prefix) :] for n in names if n.startswith(prefix)]
        return names

    def expect_checkpoint(self):
        """Draw no numbers for what a checkpoint will overwrite."""
        if self.ignore_invalid_weights:
            return
        lefts = (left for dialect in self.names for left in self.table(dialect))
        self._to_load = frozenset(left.split('/')[0] for left in lefts)

    def draw_anew(self, name):
        """A layer that no checkpoint has the weights of gets numbers in any case."""
        self._to_load = self._to_load - {name}

    def load_weights_from_checkpoint(self, checkpoint, mapping=None):
        """Load weights; nothing changes unless everything fits.

        Args:
            checkpoint: a path or a dict, see `keraseff.checkpoints.open_checkpoint`.
            mapping: a table in place of the family's, {'Layer/variable': 'tensor'}.

        Raises:
            CheckpointError: tensors are missing or of another shape; all are named.
        """
        load_weights(self, checkpoint, mapping)

    def save_weights_as_checkpoint(self, filename, mapping=None, dtype=None):
        """Save weights under the names that the family's files use.

        Args:
            filename: ending in `.safetensors` for Hugging Face's names, anything else
                is the prefix of a TensorFlow checkpoint with Google's.
            mapping: a table in place of the family's.
            dtype: of the tensors written, float32 by default.
        """
        save_weights(self, filename, mapping, dtype)
