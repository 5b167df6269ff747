"""A small vocabulary, and texts that break tokenizers."""

import random

LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éß한σÅ'
PIECES = ['bert', 'ti', '##ana', '##nm', '##en', 'tian', '##19', '2019', 'Hello']
SIGNS = list('，。！？：；（）《》“”…·、!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~')
_TOKENS = ['[PAD]', '[unused1]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *SIGNS]
_TOKENS += [chr(code) for code in range(0x4E00, 0x5400)]
_TOKENS += [*'我爱北京天安门新豈', *LETTERS, *('##' + ch for ch in LETTERS), *PIECES]
_TOKENS += ['北京', '天安门', '北京天安门', '[新]']
VOCABULARY = {token: i for i, token in enumerate(dict.fromkeys(_TOKENS))}

TEXTS = [
    '', ' ', ' \t\n\r\u3000 ', '\x00', '\ufffd\x00\x01', '\u200b\u200d\ufeff',
    '我爱北京天安门', 'Hello, WORLD! tiananmen2019', '我 爱\u3000北\t京\n天\x0b安\x85',
    '👩\u200d👩\u200d👧\u200d👦我👍🏽爱', '🇨🇳',
    'e\u0301té ÉTÉ', '中\u0301国\u0338', '\u0301', '\u0301中',
    'ＢＥＲＴ２０１９，（全角）', 'a' * 100, 'a' * 101, 'z' * 201, 'é' * 100, 'é' * 101,
    '中' * 300, '㐀䶵\U00020000\U0002a6df\U0002b740\U0002ceaf\U00030000\U00031350',
    '\U0002b820\U0002b8ff\U0002b920', '豈更\ufa0e\U0002f800\U0002fa1d',
    '한국어', '\u1112\u1161\u11ab',
    'ภาษาไทย', 'العربية', 'ß ẞ straße', 'İstanbul IĞDIR ı', 'ΑΣ Σ σς', '\ufb01 ﬀ',
    'co\xadop', '\ue000a\uf8ff', '[MASK][CLS] [SEP]x[UNK] [PAD]', '[mask]', '[新]',
    '\u2028a\u2029b\x1cc\x1fd', '\u037e\u0387\u1fef', '≠ ≮',
    '\u302e\u302f\U0001d165\U0001d16d',
    'a\u0345\u0323\u302eb', '\ud7ff\ue000', '\U0010ffff', '##a ## #', "it's “q” …—",
    '\u166d',
    '\u2e43\u2e5d\u061d', '\U00011c92\u08e2', '\u0378\u0379', '1,000.50%￥', '~～`｀',
]  # fmt: skip

BLOCKS = [
    (0x20, 0x7F), (0x4E00, 0x5500), (0xA0, 0x250), (0x300, 0x370), (0x1E00, 0x3100),
    (0xAC00, 0xB000), (0xFF00, 0x10000), (0x1F000, 0x1FB00), (0xE000, 0xE100),
    (0, 0x20),
    (0xD00, 0x1000), (0x10000, 0x12000), (0x1D100, 0x1D200), (0x2F800, 0x2FA20),
    (0x2B800, 0x2BA00), (0xF900, 0xFB00), (0, 0xD800), (0xE000, 0x110000),
    (0x20, 0x21),
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    """A few characters each of several blocks."""
    runs = rng.choices(BLOCKS, k=rng.choice([1, 3, 8]))
    return ''.join(
        chr(rng.randrange(*block)) for block in runs for _ in range(rng.randint(1, 5))
    )


def texts(count, seed=0):
    """The fixed ones, and random ones."""
    rng = random.Random(seed)
    return TEXTS + [random_text(rng) for _ in range(count)]
