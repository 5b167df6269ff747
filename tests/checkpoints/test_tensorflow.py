import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_tensorflow
from keraseff.checkpoints.bundle import HEADER
from keraseff.checkpoints.bundle import Entry
from keraseff.checkpoints.bundle import write_entry
from keraseff.checkpoints.crc32c import masked_crc32c
from keraseff.checkpoints.sstable import read_table
from keraseff.checkpoints.sstable import write_table
from keraseff.checkpoints.tensorflow import TensorFlowCheckpoint
from keraseff.checkpoints.wire import message
from keraseff.checkpoints.wire import number

DTYPES = (
    'float32 float64 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool '
    'complex64 complex128'
).split()


def samples(seed=0):
    random = np.random.default_rng(seed)
    tensors = {f'of/{d}': (random.normal(size=(3, 5)) * 9).astype(d) for d in DTYPES}
    tensors['scalar'] = np.float32(2.5)
    tensors['empty'] = np.zeros((0, 4), 'int32')
    tensors['four/axes'] = random.normal(size=(2, 1, 3, 2)).astype('float32')
    tensors['词/嵌入'] = random.normal(size=(7,)).astype('float32')
    return tensors


def save_with_tensorflow(tf, prefix, tensors, slices=None):
    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices or [''] * len(names),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


def assert_same(checkpoint, tensors):
    assert list(checkpoint) == sorted(tensors)
    for name, value in tensors.items():
        assert checkpoint.shape(name) == np.shape(value)
        assert checkpoint.dtype(name) == checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)


def test_reads_what_tensorflow_writes(tmp_path):
    tf = pytest.importorskip('tensorflow')
    tensors = samples()
    save_with_tensorflow(tf, tmp_path / 'm.ckpt', tensors)
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm.ckpt')
    assert checkpoint.dialect == 'tensorflow'
    assert_same(checkpoint, tensors)
    checkpoint.verify()


def test_bfloat16(tmp_path):
    tf = pytest.importorskip('tensorflow')
    value = tf.cast(tf.random.normal((4, 3), seed=1), tf.bfloat16)
    save_with_tensorflow(tf, tmp_path / 'm', {'half': value})
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm')
    assert checkpoint.dtype('half') == checkpoint['half'].dtype == 'bfloat16'
    np.testing.assert_array_equal(checkpoint['half'], value.numpy())


def test_strings_are_listed_but_not_read(tmp_path):
    tf = pytest.importorskip('tensorflow')
    save_with_tensorflow(tf, tmp_path / 'm', {'text': ['a', 'bc'], 'w': [1.0]})
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm')
    assert checkpoint.shape('text') == (2,)
    assert checkpoint['w'] == [1.0]
    with pytest.raises(CheckpointError, match='strings'):
        checkpoint['text']


def test_several_data_files(tmp_path):
    tf = pytest.importorskip('tensorflow')
    parts = [{'a/x': np.arange(3.0)}, {'b/y': np.arange(4), 'a/z': np.float32(1)}]
    for index, part in enumerate(parts):
        save_with_tensorflow(tf, tmp_path / f'part{index}', part)
    prefixes = [str(tmp_path / 'part0'), str(tmp_path / 'part1')]
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / 'whole')
    )
    assert (tmp_path / 'whole.data-00001-of-00002').exists()
    checkpoint = TensorFlowCheckpoint(tmp_path / 'whole')
    assert_same(checkpoint, parts[0] | parts[1])
    checkpoint.verify()


def test_partitioned_tensor(tmp_path):
    tf = pytest.importorskip('tensorflow')
    whole = np.arange(300 * 4, dtype='float32').reshape(300, 4)
    for index, (start, stop) in enumerate([(0, 70), (70, 300)]):
        save_with_tensorflow(
            tf,
            tmp_path / f'part{index}',
            {'table': whole[start:stop]},
            [f'300 4 {start},{stop - start}:-'],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / 'part0'), str(tmp_path / 'part1')],
        destination_prefix=str(tmp_path / 'whole'),
    )
    checkpoint = TensorFlowCheckpoint(tmp_path / 'whole')
    assert_same(checkpoint, {'table': whole})
    checkpoint.verify()


def test_index_of_many_blocks(tmp_path):
    tf = pytest.importorskip('tensorflow')
    tensors = {f'layer_{i:05d}/kernel': np.float32(i) for i in range(3000)}
    save_with_tensorflow(tf, tmp_path / 'm', tensors)
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm')
    assert all(checkpoint[name] == value for name, value in tensors.items())


def test_saver_of_version_one(tmp_path):
    tf = pytest.importorskip('tensorflow')
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable('bert/w', initializer=[[1.0, 2.0]])
        session.run(variable.initializer)
        saver = tf.compat.v1.train.Saver([variable])
        saver.save(session, str(tmp_path / 'm.ckpt'), global_step=7)
    np.testing.assert_array_equal(open_checkpoint(tmp_path)['bert/w'], [[1, 2]])


def test_tensorflow_reads_what_is_written(tmp_path):
    tf = pytest.importorskip('tensorflow')
    tensors = samples(1)
    write_tensorflow(tmp_path / 'new' / 'bert_model.ckpt', tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / 'new'))
    listed = dict(tf.train.list_variables(str(tmp_path / 'new' / 'bert_model.ckpt')))
    assert listed == {name: list(np.shape(value)) for name, value in tensors.items()}
    for name, value in tensors.items():
        # TensorFlow checks each tensor's checksum here.
        read = reader.get_tensor(name)
        assert read.dtype == value.dtype
        np.testing.assert_array_equal(read, value)


def test_tensorflow_reads_an_index_of_many_blocks(tmp_path):
    tf = pytest.importorskip('tensorflow')
    tensors = {f'layer_{i:05d}/kernel': np.float32(i) for i in range(2000)}
    write_tensorflow(tmp_path / 'm', tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / 'm'))
    for name in list(tensors)[::97]:
        assert reader.get_tensor(name) == tensors[name]


def test_writes_bfloat16(tmp_path):
    tf = pytest.importorskip('tensorflow')
    value = tf.constant([1.5, -2.25], tf.bfloat16)
    write_tensorflow(tmp_path / 'm', {'half': value.numpy()})
    read = tf.train.load_variable(str(tmp_path / 'm'), 'half')
    np.testing.assert_array_equal(read.astype('float32'), [1.5, -2.25])


def test_round_trip_of_odd_layouts(tmp_path):
    matrix = np.arange(12.0).reshape(3, 4)
    odd = {
        'view': matrix.T[::2],
        'big': matrix.astype('>f4'),
        'unaligned/byte': np.int8([1]),
        'unaligned/later': matrix,
    }
    write_tensorflow(tmp_path / 'm', odd)
    assert_same(
        TensorFlowCheckpoint(tmp_path / 'm'), odd | {'big': matrix.astype('f4')}
    )


def test_arrays_are_read_only_views_of_the_file(tmp_path):
    write_tensorflow(tmp_path / 'm', {'w': np.arange(5.0)})
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm')
    assert np.shares_memory(checkpoint['w'], checkpoint['w'])
    with pytest.raises(ValueError, match='read-only'):
        checkpoint['w'][0] = 1


def test_big_endian(tmp_path):
    data = np.arange(5, dtype='>f4').tobytes()
    entry = Entry(1, (5,), 0, 0, len(data), masked_crc32c(data))
    header = HEADER + number(2, 1)
    table = write_table([(b'', header), (b'w', write_entry(entry))])
    (tmp_path / 'm.index').write_bytes(table)
    (tmp_path / 'm.data-00000-of-00001').write_bytes(data)
    checkpoint = TensorFlowCheckpoint(tmp_path / 'm')
    assert_same(checkpoint, {'w': np.arange(5, dtype='float32')})
    checkpoint.verify()


@pytest.mark.parametrize(
    'shape', [(2**40, 2**40), (2**62,), (3,), (2**63 - 1, 2), (2**64 - 1,)]
)
def test_declared_shape_must_fit_the_size(tmp_path, shape):
    entry = write_entry(Entry(1, shape, 0, 0, 8, 0))
    table = write_table([(b'', HEADER), (b'w', entry)])
    (tmp_path / 'm.index').write_bytes(table)
    with pytest.raises(CheckpointError, match='damaged|side'):
        TensorFlowCheckpoint(tmp_path / 'm')


def test_declared_size_must_fit_the_file(tmp_path):
    entry = write_entry(Entry(1, (2**40,), 0, 0, 2**42, 0))
    table = write_table([(b'', HEADER), (b'w', entry)])
    (tmp_path / 'm.index').write_bytes(table)
    (tmp_path / 'm.data-00000-of-00001').write_bytes(bytes(100))
    with pytest.raises(CheckpointError, match='truncated'):
        TensorFlowCheckpoint(tmp_path / 'm')['w']


def test_slices_that_miss_rows(tmp_path):
    extent = message(1, message(1, number(2, 2)))
    entry = number(1, 1) + message(2, message(2, number(1, 4))) + message(7, extent)
    table = write_table([(b'', HEADER), (b'w', entry)])
    (tmp_path / 'm.index').write_bytes(table)
    with pytest.raises(CheckpointError, match='slice'):
        TensorFlowCheckpoint(tmp_path / 'm')


def test_verify_finds_one_wrong_bit(tmp_path):
    write_tensorflow(tmp_path / 'm', samples())
    path = tmp_path / 'm.data-00000-of-00001'
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='checksum'):
        TensorFlowCheckpoint(tmp_path / 'm').verify()


def test_compressed_blocks_are_named(tmp_path):
    table = bytearray(write_table([(b'', HEADER)]))
    size = len(read_table(bytes(table))[b'']) + 3 + 8
    table[size] = 1
    table[size + 1 : size + 5] = masked_crc32c(bytes(table[: size + 1])).to_bytes(
        4, 'little'
    )
    (tmp_path / 'm.index').write_bytes(table)
    with pytest.raises(CheckpointError, match='compressed'):
        TensorFlowCheckpoint(tmp_path / 'm')


def test_table_keeps_all_entries():
    entries = [(b'', b'head')]
    entries += [(f'key/{i:06d}'.encode(), bytes(i % 90)) for i in range(5000)]
    assert read_table(write_table(entries)) == dict(entries)


@pytest.mark.parametrize('tensors', [{'': np.ones(1)}, {'a': np.array(['x'])}])
def test_refuses_to_write(tmp_path, tensors):
    with pytest.raises(CheckpointError, match='cannot be'):
        write_tensorflow(tmp_path / 'm', tensors)
    assert not list(tmp_path.iterdir())


def test_toy_bert(data_dir):
    tf = pytest.importorskip('tensorflow')
    folder = data_dir / 'keras_bert_toy_ckpt' / 'test_checkpoint'
    checkpoint = open_checkpoint(folder / 'bert_model.ckpt')
    reader = tf.train.load_checkpoint(str(folder / 'bert_model.ckpt'))
    assert set(checkpoint) == set(reader.get_variable_to_shape_map())
    for name in checkpoint:
        np.testing.assert_array_equal(checkpoint[name], reader.get_tensor(name))
    checkpoint.verify()


def test_names_without_data(data_dir):
    tf = pytest.importorskip('tensorflow')
    prefix = data_dir / 'chinese_bert_vocab_config' / 'albert_tiny_zh.ckpt'
    checkpoint = open_checkpoint(prefix)
    shapes = {name: list(checkpoint.shape(name)) for name in checkpoint}
    assert shapes == dict(tf.train.list_variables(str(prefix)))
    with pytest.raises(CheckpointError, match='data-00000-of-00001.*missing'):
        checkpoint['bert/embeddings/word_embeddings']


@pytest.mark.parametrize('name', ['', 'a\0b', '\ud800'], ids=ascii)
def test_names_that_no_index_can_hold(tmp_path, name):
    with pytest.raises(CheckpointError, match='cannot be the name'):
        write_tensorflow(tmp_path / 'm', {'a': np.zeros(1), name: np.zeros(1)})
    assert not list(tmp_path.iterdir())
