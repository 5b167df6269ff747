"""The names of T5's tensors: one table for each version and each of its parts."""

# Not a weight of any version, or a copy of the embeddings: AdaFactor's slots, and a
# table of the first T5's files that its authors' code no longer reads.
IGNORED = (
    r'_slot_v[rc]?$|embed_tokens\.weight$'
    r'|EncDecAttention[./]relative_attention_bias(\.weight)?$'
)
# Other names of the embeddings, in files of an encoder alone.
ALTERNATIVES = {
    'shared.weight': ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
}


def t5_names(parts=('encoder', 'decoder'), gated=False, norm='layer_norm'):
    """The checkpoint tables of a T5.

    Args:
        parts: which of 'encoder' and 'decoder' it has.
        gated: whether its feed-forward networks have two matrices inside.
        norm: what Google's files call a normalisation.

    -> {'tensorflow': {left: right}, 'huggingface': {left: right}}.
    """
    return {
        'tensorflow': _tensorflow(parts, gated, norm),
        'huggingface': _huggingface(parts, gated),
    }


def _inner(gated):
    """The matrices of a feed-forward network: ours, theirs."""
    if gated:
        return '{intermediate,intermediate_1,output}', '{wi_0,wi_1,wo}'
    return '{intermediate,output}', '{wi,wo}'


def _sublayers(part):
    """(ours, theirs) of the sublayers of a block that attend, in their order."""
    across = [('MultiHeadCrossAttention', 'EncDecAttention')]
    own = [('MultiHeadSelfAttention', 'SelfAttention')]
    return own + (across if part == 'decoder' else [])


def _tensorflow(parts, gated, norm):
    ours, theirs = _inner(gated)
    table = {'Embedding-Token/embeddings': 'shared/embedding'}
    for part in parts:
        side, block = part.capitalize(), part + '/block_{i:03d}/layer_'
        layer = side + '-Transformer-{i}-'
        table[f'{side}-Embedding-Relative-Position/embeddings'] = (
            f'{part}/block_000/layer_000/SelfAttention/relative_attention_bias|T'
        )
        sublayers = _sublayers(part)
        for k, (name, tensor) in enumerate(sublayers):
            table[f'{layer}{name}-Norm/gamma'] = f'{block}{k:03d}/{norm}/scale'
            table[layer + name + '/{query,key,value,output}/kernel'] = (
                f'{block}{k:03d}/{tensor}/' + '{q,k,v,o}'
            )
        last = f'{block}{len(sublayers):03d}/'
        table[f'{layer}FeedForward-Norm/gamma'] = f'{last}{norm}/scale'
        table[f'{layer}FeedForward/{ours}/kernel'] = (
            f'{last}DenseReluDense/{theirs}/kernel'
        )
        final = norm if norm == 'rms_norm' else f'final_{norm}'
        table[f'{side}-Output-Norm/gamma'] = f'{part}/{final}/scale'
        table[f'{side}-Embedding-Mapping/kernel'] = (
            f'{part}/embedding_hidden_mapping_in/kernel'
        )
    if 'decoder' in parts:
        table['Decoder-Output-Mapping/kernel'] = (
            'decoder/hidden_embedding_mapping_out/kernel'
        )
        table['Decoder-Output-LM/kernel'] = 'decoder/logits/kernel'
    return table


def _huggingface(parts, gated):
    ours, theirs = _inner(gated)
    table = {'Embedding-Token/embeddings': 'shared.weight'}
    for part in parts:
        side, block = part.capitalize(), part + '.block.{i}.layer.'
        layer = side + '-Transformer-{i}-'
        table[f'{side}-Embedding-Relative-Position/embeddings'] = (
            f'{part}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
        )
        sublayers = _sublayers(part)
        for k, (name, tensor) in enumerate(sublayers):
            table[f'{layer}{name}-Norm/gamma'] = f'{block}{k}.layer_norm.weight'
            table[layer + name + '/{query,key,value,output}/kernel'] = (
                f'{block}{k}.{tensor}.' + '{q,k,v,o}.weight'
            )
        last = f'{block}{len(sublayers)}.'
        table[f'{layer}FeedForward-Norm/gamma'] = f'{last}layer_norm.weight'
        table[f'{layer}FeedForward/{ours}/kernel'] = (
            f'{last}DenseReluDense.{theirs}.weight'
        )
        table[f'{side}-Output-Norm/gamma'] = f'{part}.final_layer_norm.weight'
        table[f'{side}-Embedding-Mapping/kernel'] = (
            f'{part}.embedding_hidden_mapping_in.weight'
        )
    if 'decoder' in parts:
        table['Decoder-Output-Mapping/kernel'] = (
            'decoder.hidden_embedding_mapping_out.weight'
        )
        table['Decoder-Output-LM/kernel'] = 'lm_head.weight'
    return table
