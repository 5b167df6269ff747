"""Training a model differently, with `model.compile` and `model.fit` as they are."""

from keraseff.training.adversarial import adversarial_training
from keraseff.training.adversarial import projected_gradient_training
from keraseff.training.adversarial import virtual_adversarial_training
from keraseff.training.distillation import distill
from keraseff.training.distribution import connect
from keraseff.training.distribution import distribute
from keraseff.training.distribution import distribution
from keraseff.training.distribution import stop_distributing
from keraseff.training.gradient_penalty import gradient_penalty
from keraseff.training.gradient_penalty import jacobian_penalty
from keraseff.training.lora import add_lora
from keraseff.training.lora import load_adapters
from keraseff.training.lora import merge_adapters
from keraseff.training.lora import save_adapters
from keraseff.training.noise import laplacian
from keraseff.training.noise import noisy_embeddings
from keraseff.training.objective import minimise
from keraseff.training.objective import train_plainly
from keraseff.training.objective import tricks_of
from keraseff.training.quantisation import Quantised
from keraseff.training.quantisation import quantize
from keraseff.training.r_drop import r_drop
from keraseff.training.rematerialisation import keep_everything
from keraseff.training.rematerialisation import rematerialise
from keraseff.training.self_training import SelfTrainer
from keraseff.training.theseus import ReplacementScheduler
from keraseff.training.theseus import bert_of_theseus
from keraseff.training.theseus import constant_replacement
from keraseff.training.theseus import extract_successor
from keraseff.training.theseus import linear_replacement
from keraseff.training.truncation import truncate
from keraseff.training.unlabelled import join_unlabelled

__all__ = [
    'Quantised',
    'ReplacementScheduler',
    'SelfTrainer',
    'add_lora',
    'adversarial_training',
    'bert_of_theseus',
    'connect',
    'constant_replacement',
    'distill',
    'distribute',
    'distribution',
    'extract_successor',
    'gradient_penalty',
    'jacobian_penalty',
    'join_unlabelled',
    'keep_everything',
    'laplacian',
    'linear_replacement',
    'load_adapters',
    'merge_adapters',
    'minimise',
    'noisy_embeddings',
    'projected_gradient_training',
    'quantize',
    'r_drop',
    'rematerialise',
    'save_adapters',
    'train_plainly',
    'tricks_of',
    'stop_distributing',
    'truncate',
    'virtual_adversarial_training',
]
