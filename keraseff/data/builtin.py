"""Small corpora made on the fly, so that every example runs without a download.

The words are those of jieba's dictionary file, which is read directly.
"""

import functools
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keraseff.data.corpora import Example
from keraseff.data.sentence_templates import PLAIN
from keraseff.data.sentence_templates import WITH_ENTITIES

_SURNAMES = set(
    '王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕'
    '苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾'
    '侯邵孟龙万段章钱汤尹黎易常武乔贺赖龚'
)
_FOREIGN = set(
    '阿埃艾安奥巴班鲍贝本比彼波伯勃博布达丹道德迪蒂杜恩尔法菲费弗福夫盖戈格古哈海赫亨'
    '霍基吉加杰卡凯坎康考科克肯库拉莱兰劳勒雷里利列林卢鲁伦罗洛马迈曼梅米密莫姆穆拿纳'
    '内尼诺帕佩皮普奇乔切琼萨塞森桑沙绍施史斯苏塔泰坦汤特提图托瓦万威维文沃乌西希夏休'
    '雅亚伊尤约泽詹兹佐'
)
_PLACE = re.compile(r'[\u4e00-\u9fff]{1,3}[省市县区州镇乡村岛湾港江河湖山岭街路]')
_ORGANISATION = re.compile(
    r'[\u4e00-\u9fff]{2,8}(大学|学院|公司|银行|医院|法院|委员会|协会|学会|研究所|研究院|中学|'
    r'出版社|集团|电视台|日报|晚报|公安局|警察局|俱乐部|基金会|交易所|博物馆|教育部|外交部|'
    r'国防部|议会|总局|报社|政府|航空|医科大学|党委|省委|市委|工会|联盟|总会|剧院|乐团)'
)
_OFFICES = (
    '公安局',
    '人民医院',
    '人民法院',
    '教育局',
    '第一中学',
    '税务局',
    '人民政府',
    '文化馆',
    '规划局',
    '农业局',
    '图书馆',
)
_HOUSES = (
    '大学',
    '医院',
    '银行',
    '师范学院',
    '实验中学',
    '晚报',
    '电视台',
    '航空公司',
    '博物馆',
    '理工学院',
    '证券',
)
_TRADES = ('科技', '贸易', '食品', '建筑', '物流', '电子', '药业', '传媒', '')
_BRAND = '华鑫恒瑞盛达宏泰远天金龙东新创联信诚嘉康宇星辰润丰顺源博凯中正和悦'
_PARTS = ('附属医院', '附属中学', '出版社', '研究院', '{l}分公司', '{l}办事处')


class Words(NamedTuple):
    """What the gaps of the templates are filled from."""

    people: list[str]
    places: list[str]
    organisations: list[str]

    def split(self, fraction: float, rng: np.random.Generator) -> tuple:
        """Two Words with nothing in common; the second has `fraction` of each list."""
        parts = []
        for words in self:
            order = rng.permutation(len(words))
            count = int(len(words) * fraction)
            held = {words[i] for i in order[:count]}
            parts.append(
                ([w for w in words if w not in held], [w for w in words if w in held])
            )
        return Words(*(p[0] for p in parts)), Words(*(p[1] for p in parts))


@functools.cache
def dictionary_words() -> Words:
    """The names of people (nr*), places (ns) and organisations (nt) jieba knows.

    Only those that look the part: the dictionary's own labels are rough.
    Raises ImportError if jieba is not installed.
    """
    spec = importlib.util.find_spec('jieba')
    if spec is None or spec.origin is None:
        raise ImportError('the built-in corpora need jieba: pip install jieba')
    words = Words([], [], [])
    # importing jieba would compile its regular expressions and warn on new Pythons
    text = Path(spec.origin).with_name('dict.txt').read_text(encoding='utf-8')
    for line in text.split('\n'):
        word, count, kind = line.split(' ') if line else ('', '0', '')
        if kind[:2] == 'nr' and _is_person(word, kind):
            words.people.append(word)
        elif kind == 'ns' and _is_place(word, int(count)):
            words.places.append(word)
        elif kind == 'nt' and _ORGANISATION.fullmatch(word):
            words.organisations.append(word)
    return words


@functools.cache
def _known_places() -> frozenset[str]:
    return frozenset(dictionary_words().places)


def _is_person(word: str, kind: str) -> bool:
    if kind == 'nrt':
        return 3 <= len(word) <= 5 and set(word) <= _FOREIGN
    return word[0] in _SURNAMES and len(word) == 3


def _is_place(word: str, count: int) -> bool:
    return bool(_PLACE.fullmatch(word)) or (len(word) in (2, 3) and count >= 100)


class _Writer:
    """Fills templates, noting where the entities stand."""

    def __init__(self, words: Words, rng: np.random.Generator):
        self.words = words
        self.rng = rng
        self.text = ''
        self.entities: set[tuple[int, int, str]] = set()

    def choose(self, things: Iterable) -> str:
        return things[self.rng.integers(len(things))]

    def add(self, words: str, kind: str | None = None) -> None:
        start = len(self.text)
        self.text += words
        if kind:
            self.entities.add((start, len(self.text), kind))

    def fill(self, template: str) -> None:
        for i, piece in enumerate(re.split(r'\{(\w)\}', template)):
            if i % 2:
                getattr(self, f'add_{piece}')()
            else:
                self.add(piece)

    def add_p(self) -> None:
        self.add(self.choose(self.words.people), 'person')

    def add_l(self) -> None:
        self.add(self.choose(self.words.places), 'place')

    def add_n(self) -> None:
        self.add(str(int(2 ** self.rng.uniform(1, 7))))

    def add_d(self) -> None:
        year, month, day = self.rng.integers((1960, 1, 1), (2026, 13, 29)).tolist()
        forms = f'{month}月{day}日', f'{year}年{month}月', f'{year}年', '近日', '昨天'
        self.add(self.choose(forms))

    def add_o(self) -> None:
        start = len(self.text)
        if self.rng.random() < 0.5:
            self.from_dictionary(start)
        else:
            self.from_place(start)
        self.entities.add((start, len(self.text), 'organisation'))
        if self.rng.random() < 0.1:
            self.fill(self.choose(_PARTS))
            self.entities.add((start, len(self.text), 'organisation'))

    def from_dictionary(self, start: int) -> None:
        word = self.choose(self.words.organisations)
        self.add(word)
        for length in range(min(4, len(word) - 2), 1, -1):
            if word[:length] in _known_places():
                self.entities.add((start, start + length, 'place'))
                return

    def from_place(self, start: int) -> None:
        self.add_l()
        if self.text[-1] in '省市县区州镇':
            self.add(self.choose(_OFFICES))
        elif self.rng.random() < 0.6:
            self.add(self.choose(_HOUSES))
        else:
            brand = self.choose(_BRAND) + self.choose(_BRAND)
            self.add(brand + self.choose(_TRADES) + '有限公司')


def _example(words: Words, rng: np.random.Generator) -> Example:
    writer = _Writer(words, rng)
    kind = rng.random()
    if kind < 0.15:
        writer.fill(writer.choose(PLAIN))
    elif kind < 0.35:
        for templates in rng.permutation([0, 1]):
            writer.fill(writer.choose((PLAIN, WITH_ENTITIES)[templates]))
    else:
        writer.fill(writer.choose(WITH_ENTITIES))
        if kind > 0.85:
            writer.fill(writer.choose(WITH_ENTITIES))
    return writer.text, sorted(writer.entities)


def _examples(size: int, words: Words, rng: np.random.Generator) -> list[Example]:
    rows = []
    while len(rows) < size:
        row = _example(words, rng)
        if 6 <= len(row[0]) <= 64:
            rows.append(row)
    return rows


def synthetic_entities(size: int = 2000, seed: int = 0) -> list[Example]:
    """Made-up Chinese sentences with people, places and organisations.

    The types are 'person', 'place' and 'organisation'; an organisation may begin with
    a place or another organisation, so entities nest. The same seed gives the same.
    """
    return _examples(size, dictionary_words(), np.random.default_rng(seed))


def synthetic_texts(size: int = 4000, seed: int = 0, texts: int = 40) -> list[str]:
    """Texts of made-up sentences: those of `synthetic_entities`, dealt out in turn.

    Args:
        size: sentences in all.
        seed: the same one gives the same texts.
        texts: among how many they are dealt.
    """
    rows = [text for text, _ in synthetic_entities(size, seed)]
    return [''.join(rows[i::texts]) for i in range(texts)]


def train_dev(
    size: int = 2000, seed: int = 0, dev_size: int | None = None
) -> tuple[list[Example], list[Example]]:
    """Training rows and dev rows whose names do not occur in them.

    Args:
        size: rows to train on.
        seed: decides the names on each side and the sentences.
        dev_size: None is a fifth of size.

    The sentences' patterns are the same on both sides, the dictionary's words are not;
    only the endings of organisations, and places inside them, are shared.
    """
    rng = np.random.default_rng(seed)
    known, unseen = dictionary_words().split(0.2, rng)
    dev_size = max(1, size // 5) if dev_size is None else dev_size
    return _examples(size, known, rng), _examples(dev_size, unseen, rng)


def characters(rows: Iterable[Example], least: int = 1) -> list[str]:
    """The characters that occur at least so often, the most frequent first."""
    counts: dict[str, int] = {}
    for text, *_ in rows:
        for character in text:
            counts[character] = counts.get(character, 0) + 1
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [character for character, count in order if count >= least]
