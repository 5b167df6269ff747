"""What a model is made of: one dataclass, and one table of other people's spellings."""

import dataclasses
import difflib
import json
from pathlib import Path

ALIASES = {
    'max_position_embeddings': 'max_position',
    'hidden_dropout_prob': 'dropout_rate',
    'attention_probs_dropout_prob': 'attention_dropout_rate',
    'type_vocab_size': 'segment_vocab_size',
    'num_layers': 'num_hidden_layers',
    'n_layer': 'num_hidden_layers',
    'rms_norm_eps': 'layer_norm_eps',
    'layer_norm_epsilon': 'layer_norm_eps',
}
# Keywords only: a file's own dtype says how its weights were stored, and other
# people's words for the others mean other things.
NOT_FROM_FILES = ('dtype', 'position', 'window')

# The least that a size may be.
LEAST = {
    'vocab_size': 1,
    'hidden_size': 1,
    'num_hidden_layers': 0,
    'num_attention_heads': 1,
    'intermediate_size': 1,
    'max_position': 1,
    'segment_vocab_size': 0,
}

# The most that a size may be; no model comes near.
MOST = 2**31 - 1

CONFIG_FILES = ('config.json', 'bert_config.json')


@dataclasses.dataclass(frozen=True)
class Config:
    """The options of a Transformer, by bert4keras' names.

    Args:
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads,
            intermediate_size, hidden_act: as in `bert_config.json`; a list of
            activations makes the feed-forward network a gated one.
        dropout_rate, attention_dropout_rate: 0 where the file has none.
        embedding_size: channels of the embeddings where they are not `hidden_size`.
        attention_head_size, attention_key_size: channels of a head's values, and of its
            queries and keys, where they are not hidden_size / num_attention_heads.
        sequence_length: fixes the length of the inputs; None leaves it free.
        max_position, segment_vocab_size: 512 and 2 by default; 0 segments remove that
            input.
        keep_tokens: ids kept of the checkpoint's vocabulary, in their new order.
        compound_tokens: tokens appended to it: lists of ids, or (ids, weights), whose
            vectors are averaged; the ids count the rows that `keep_tokens` kept.
        residual_attention_scores: RealFormer's sum of scores over the layers.
        ignore_invalid_weights: leave missing or mis-shaped tensors as they were made.
        autoresize_weights: tile or cut mis-shaped tensors to the shape wanted.
        layers: a dict of layers by name to share with another model.
        prefix: put before every layer's name; two models can then share a graph.
        name: the Keras model's name.
        with_pool, with_nsp, with_mlm: heads; a string is the activation.
        hierarchical_position: positions beyond `max_position`, see `PositionEmbedding`.
        custom_position_ids: one more input, Input-Position.
        shared_segment_embeddings: segments use the token embeddings.
        layer_norm_eps: ε of the normalisations; each family has its own default.
        initializer_range: deviation of the random weights.
        tie_word_embeddings: the MLM or LM head scores with the token embeddings.
        pad_token_id: the id that is masked as padding; None masks nothing.
        dtype: Keras' dtype policy of every layer, such as 'bfloat16' or
            'mixed_float16'; the global policy by default.
        layer_norm_cond: a Keras tensor (b, c) that every normalisation depends on.
        layer_norm_cond_hidden_size, layer_norm_cond_hidden_act: a Dense before that.
        additional_input_layers: more inputs of the model, such as that tensor's.
        attention: the mechanism of attention, a name in `MECHANISMS` or a `Mechanism`;
            or what stands in attention's place, a name in `MIXERS` or a `Mixer`.  Of an
            instance each block gets a copy with weights of its own.
        attention_options: a dict of its arguments, where `attention` is a name.
        position: a name in `POSITIONS`, or a `Position`, in place of the family's;
            'learned', 'hierarchical' and 'sinusoidal' vectors are added to the tokens'
            instead; 'none' knows no order.
        position_options: a dict of more arguments of the position.
        logn: the length of the texts seen in training, beyond which queries grow with
            the logarithm of the length, see `MultiHeadAttention`.
        window, sinks: how many steps a query sees, and how many of the first besides.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: object = 'gelu'
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    embedding_size: int | None = None
    attention_head_size: int | None = None
    attention_key_size: int | None = None
    sequence_length: int | None = None
    max_position: int = 512
    segment_vocab_size: int = 2
    keep_tokens: object = None
    compound_tokens: object = None
    residual_attention_scores: bool = False
    ignore_invalid_weights: bool = False
    autoresize_weights: bool = False
    layers: dict | None = None
    prefix: str | None = None
    name: str | None = None
    with_pool: object = False
    with_nsp: object = False
    with_mlm: object = False
    hierarchical_position: object = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False
    layer_norm_eps: float | None = None
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    layer_norm_cond: object = None
    layer_norm_cond_hidden_size: int | None = None
    layer_norm_cond_hidden_act: str = 'linear'
    additional_input_layers: object = None
    attention: object = 'softmax'
    attention_options: dict | None = None
    position: object = None
    position_options: dict | None = None
    logn: int | None = None
    window: int | None = None
    sinks: int = 0
    pad_token_id: int | None = 0
    dtype: object = None

    def __post_init__(self):
        """Fill what follows from other fields, and refuse what cannot be."""
        for field, least in LEAST.items():
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not least <= value <= MOST:
                raise ValueError(
                    f'{field}={value!r} must be a whole number of {least} or more, '
                    f'and no more than {MOST}.'
                )
        for field in ('dropout_rate', 'attention_dropout_rate'):
            object.__setattr__(self, field, getattr(self, field) or 0.0)
        heads, size = self.num_attention_heads, self.hidden_size
        if not self.attention_head_size and size % heads:
            near = [h for h in range(1, min(size, 4096) + 1) if size % h == 0]
            near = sorted(near, key=lambda h: abs(h - heads))[:2]
            raise ValueError(
                f'num_attention_heads={heads} does not divide hidden_size={size}; use '
                f'{" or ".join(map(str, sorted(near)))}, or give attention_head_size.'
            )
        head_size = self.attention_head_size or size // heads
        object.__setattr__(self, 'attention_head_size', head_size)
        object.__setattr__(
            self, 'attention_key_size', self.attention_key_size or head_size
        )
        object.__setattr__(self, 'embedding_size', self.embedding_size or size)


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(Config):
    """The options of a language model: `Config`, and

    Args:
        with_lm: the scores of the next token; a string is their activation ('linear'
            for logits), True softmax, False the sequence itself.
    """

    with_lm: object = True


# The arguments of build_transformer_model that are no options.
ARGUMENTS = (
    'config_path',
    'checkpoint_path',
    'model',
    'application',
    'return_keras_model',
)
FIELDS = tuple(field.name for field in dataclasses.fields(Config))


def read_config(config):
    """The options in a file, as a dict with bert4keras' spellings.

    Args:
        config: a path to a JSON file, a directory that holds `config.json` or
            `bert_config.json`, a dict, or None.

    Keys that nobody here knows are left in place; `make_config` skips them.

    Raises:
        FileNotFoundError: there is no such file, or none in the directory.
        ValueError: the file is no JSON object.
    """
    if config is None:
        return {}
    if isinstance(config, dict):
        return _renamed(config)
    path = Path(config)
    if path.is_dir():
        path = _find(path)
    elif not path.exists():
        raise FileNotFoundError(
            f'{path}: there is no such file or folder.  Nothing is fetched from '
            'anywhere: download the model, and pass the folder it lies in.'
        )
    try:
        options = json.loads(path.read_text(encoding='utf-8'))
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not a text file in UTF-8 ({error}).') from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}:{error.lineno}: not valid JSON: {error.msg}.'
        ) from None
    except (ValueError, RecursionError) as error:  # endless numbers, endless nesting
        raise ValueError(f'{path}: not acceptable JSON: {error}.') from None
    if not isinstance(options, dict):
        raise ValueError(
            f'{path}: expected a JSON object, got a {type(options).__name__}.'
        )
    return _renamed(options)


def _find(directory):
    for name in CONFIG_FILES:
        if (directory / name).is_file():
            return directory / name
    others = sorted(directory.glob('*config*.json'))
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f'{directory} holds no {" or ".join(CONFIG_FILES)}; pass the file itself.'
    )


def _renamed(options):
    return renamed(options, ALIASES, FIELDS)


def renamed(options, aliases, fields):
    """Options under our spellings; where a file has both, ours counts.

    Args:
        options: a dict.
        aliases: {other spelling: ours}.
        fields: our spellings.
    """
    ours = {aliases.get(key, key): value for key, value in options.items()}
    return ours | {key: options[key] for key in options if key in fields}


def make_config(options, keywords, kind=Config, aliases=None):
    """A config from a file's options and the caller's keywords, which win.

    Files are read leniently, for other people's are full of other things; keywords
    strictly.

    Args:
        options: a dict, already under our spellings.  None stands for the default.
        keywords: a dict.
        kind: `Config` or a dataclass derived from it.
        aliases: spellings of one family, besides `ALIASES`.

    Raises:
        TypeError: a keyword is unknown, with the nearest known one.
        ValueError: a required option is given by neither.
    """
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    keywords = _strict(keywords, names, ALIASES | (aliases or {}))
    told = {key: options[key] for key in names if options.get(key) is not None}
    for key in NOT_FROM_FILES:
        told.pop(key, None)
    merged = told | keywords
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    missing = [key for key in required if merged.get(key) is None]
    if missing:
        raise ValueError(
            f'The config lacks {", ".join(missing)}; it holds '
            f'{", ".join(sorted(merged)) or "nothing"}.'
        )
    return kind(**merged)


def _strict(keywords, names, aliases):
    known = {}
    for key, value in keywords.items():
        name = aliases.get(key, key)
        if name not in names:
            known_names = [*names, *aliases, *ARGUMENTS]
            near = difflib.get_close_matches(key, known_names, n=1, cutoff=0.5)
            hint = f'  Did you mean {near[0]!r}?' if near else ''
            raise TypeError(f'Unknown option {key!r}.{hint}')
        known[name] = value
    return known
