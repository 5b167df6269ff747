"""The files that go along with weights: config and vocabulary."""

import dataclasses
import json
from pathlib import Path

from keraseff.checkpoints.files import replacing
from keraseff.models.fitting import heads_in

# What a tokenizer may need; their names are the same everywhere.
VOCABULARIES = (
    'vocab.txt',
    'vocab.json',
    'merges.txt',
    'tokenizer.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'added_tokens.json',
    'generation_config.json',
    'spiece.model',
    'sentencepiece.model',
    'tokenizer.model',
    'chat_template.jinja',
)
# Family: model_type, class in transformers; {} stands for what follows from the heads.
_TYPES = {
    'albert': ('albert', 'Albert{}'),
    'bert': ('bert', 'Bert{}'),
    'electra': ('electra', 'Electra{}'),
    'gpt': ('openai-gpt', 'OpenAIGPTLMHeadModel'),
    'gpt2': ('gpt2', 'GPT2LMHeadModel'),
    'llama': ('llama', 'LlamaForCausalLM'),
    'mistral': ('mistral', 'MistralForCausalLM'),
    'mt5': ('mt5', 'MT5ForConditionalGeneration'),
    'mt5.1.1': ('mt5', 'MT5ForConditionalGeneration'),
    'mt5.1.1_encoder': ('mt5', 'MT5EncoderModel'),
    'nezha': ('nezha', 'Nezha{}'),
    'openai-gpt': ('openai-gpt', 'OpenAIGPTLMHeadModel'),
    'qwen2': ('qwen2', 'Qwen2ForCausalLM'),
    'qwen3': ('qwen3', 'Qwen3ForCausalLM'),
    'roberta': ('bert', 'Bert{}'),
    'roformer': ('roformer', 'RoFormer{}'),
    't5': ('t5', 'T5ForConditionalGeneration'),
    't5.1.0': ('t5', 'T5ForConditionalGeneration'),
    't5.1.0_encoder': ('t5', 'T5EncoderModel'),
    't5.1.1': ('t5', 'T5ForConditionalGeneration'),
    't5.1.1_encoder': ('t5', 'T5EncoderModel'),
    't5_encoder': ('t5', 'T5EncoderModel'),
}
# Those of which transformers has one class for both heads.
_BOTH_HEADS = 'albert', 'bert', 'nezha'
# Our spellings, and those that every other reader of a config expects.
_SPELLINGS = {
    'max_position': 'max_position_embeddings',
    'segment_vocab_size': 'type_vocab_size',
    'dropout_rate': 'hidden_dropout_prob',
    'attention_dropout_rate': 'attention_probs_dropout_prob',
}


@dataclasses.dataclass
class Companion:
    """A file to write beside weights.

    Attributes:
        path: where.
        data: its bytes.
    """

    path: Path
    data: bytes

    def write(self):
        """Write it; it appears when it is complete."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write(self.data)


def plan_companions(subject, target, transformer, dtype=None):
    """The config and the vocabulary that go into the folder of a `convert.Target`."""
    if target.folder is None:
        return []
    companions = []
    for name in VOCABULARIES:
        source = subject.folder / name
        if source.is_file():
            companions.append(Companion(target.folder / name, source.read_bytes()))
    if subject.config_path is not None:
        config = json.loads(subject.config_path.read_text(encoding='utf-8'))
        name = 'bert_config.json'
        if target.dialect == 'huggingface':
            name = 'config.json'
            config = transformers_config(config, subject.chosen, dtype)
        text = json.dumps(config, ensure_ascii=False, indent=2)
        companions.append(Companion(target.folder / name, text.encode() + b'\n'))
    return companions


def transformers_config(config, recognised, dtype=None):
    """A config as transformers reads it; what it says already stays.

    Args:
        config: a dict, as in the file.
        recognised: the family, or None.
        dtype: of the tensors, if they were cast.
    """
    result = dict(config)
    if recognised is not None and 'model_type' not in config:
        result = _respelled(config, recognised.family)
    kind, start = _TYPES.get(recognised.name if recognised else '', (None, None))
    if kind is not None:
        result.setdefault('model_type', kind)
        if result['model_type'] == kind:
            name = start.format(_ending(kind, heads_in(recognised)))
            result.setdefault('architectures', [name])
    if dtype is not None:
        for key in ('torch_dtype', 'dtype'):
            if key in result:
                result[key] = dtype
    return result


def _respelled(config, family):
    """Our spellings replaced by those of the family's own configs."""
    theirs = {ours: key for key, ours in reversed(family.aliases.items())}
    theirs = _SPELLINGS | theirs
    result = {theirs.get(key, key): value for key, value in config.items()}
    return result | {key: config[key] for key in config if key in theirs.values()}


def _ending(kind, heads):
    both = 'with_nsp' in heads and 'with_mlm' in heads
    if 'with_discriminator' in heads or (both and kind in _BOTH_HEADS):
        return 'ForPreTraining'
    return 'ForMaskedLM' if 'with_mlm' in heads else 'Model'
