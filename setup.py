"""Metadata and dependencies; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages
from setuptools import setup

here = Path(__file__).parent
setup(
    name='keraseff',
    version='0.1.0',
    description='Transformers for Chinese NLP in Keras 3, with the conventions of '
    'bert4keras, on TensorFlow, JAX and PyTorch.',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['keraseff', 'keraseff.*']),
    install_requires=[
        'keras>=3.12',
        'tensorflow>=2.18',
        'numpy',
        'scipy',
        'scikit-learn',
        'jieba',
        'h5py',
        'safetensors',
        'ml_dtypes',  # bfloat16 in numpy; Keras needs it as well
        'sentencepiece>=0.2.3',  # offsets in characters
        'tokenizers>=0.20',
    ],
    extras_require={
        'jax': ['jax'],
        'torch': ['torch'],
        'plot': ['matplotlib'],  # learning curves, and the pictures of benchmarks/
        'tensorboard': ['tensorboardX'],  # writes event files without TensorFlow
        'test': [
            'pytest',
            'jax',
            'torch==2.13.0',  # a release known to pass, rather than any
            'transformers>=4.40',
            'seqeval',
            'entmax==1.3',
            'matplotlib',
            'tensorboardX',
        ],
    },
)
