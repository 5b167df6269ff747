"""Normal noise on the embeddings, and what it does to a loss."""

import keras
from keras import ops

from keraseff.optimizers.arguments import check_number
from keraseff.training.embeddings import Perturbation
from keraseff.training.objective import differentiate
from keraseff.training.objective import minimise
from keraseff.training.objective import replaced


class Noise:
    """Normal random numbers, others in each step of an optimizer.

    Args:
        seed: an int.

    They are a function of the seed and the optimizer's count of steps, which is saved
    with the model, so a training that goes on draws what it would have drawn.
    """

    def __init__(self, seed=0):
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def like(self, tensors, optimizer, sign=False, draw=0):
        """A tensor of the shape of each, float32; of ±1 if `sign`.

        Args:
            draw: number of the draw in this step, below 64.
        """
        state = self.generator.state
        count = ops.cast(optimizer.iterations, state.dtype)
        start = ops.stack([ops.cast(self.seed, state.dtype), (count * 64 + draw) * 64])

        def numbers():
            return [
                keras.random.normal(ops.shape(x), dtype='float32', seed=self.generator)
                for x in tensors
            ]

        drawn = replaced(numbers, [(state, start)])
        return [ops.where(x < 0, -1.0, 1.0) for x in drawn] if sign else drawn


class NoisyEmbeddings(Perturbation):
    """The loss where the embeddings have moved at random; see `noisy_embeddings`.

    Args:
        inner, embedding_name, per: see `Perturbation`.
        sigma: the standard deviation of each number's change.
        seed: of the noise.
    """

    def __init__(self, inner, embedding_name, sigma=0.01, seed=0, per='example'):
        super().__init__(inner, embedding_name, per)
        check_number(least=0, sigma=sigma)
        self.sigma, self.noise = sigma, Noise(seed)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        drawn = self.noise.like(self.places.zeros(batch), batch.model.optimizer)
        changes = [self.sigma * x for x in drawn]
        return self.places.changed(lambda: self.inner(batch), changes)


def noisy_embeddings(
    model, embedding_name='Embedding-Token', sigma=0.01, seed=0, per='example'
):
    """Train with normal noise on the embeddings.

    Args:
        model: a compiled `keras.Model`.
        embedding_name: of the embedding layer, or a list of names.
        sigma: the standard deviation of each number's change.
        seed: of the noise.
        per: 'example' for other noise at each place, 'matrix' on the layer's matrix.

    Returns the model.  The mean loss is the loss + ½ σ² Δloss to second order, Δ being
    `laplacian`.  https://kexue.fm/archives/7466
    """
    options = {'sigma': sigma, 'seed': seed, 'per': per}
    return minimise(model, NoisyEmbeddings, embedding_name=embedding_name, **options)


def laplacian(function, x, samples=1, seed=0):
    """Hutchinson's estimate of Σ ∂²f/∂xᵢ², the mean of vᵀ H v over random signs v.

    Args:
        function: takes a tensor like x, gives a scalar; twice differentiable.
        x: a float tensor.
        samples: number of draws of v.
        seed: of the signs.

    -> a scalar; exact where H is diagonal.  Hutchinson, 1989
    """
    x = ops.convert_to_tensor(x)
    seeds = keras.random.SeedGenerator(seed)
    total = 0.0
    for _ in range(samples):
        drawn = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=seeds)
        v = ops.where(drawn < 0, -ops.ones_like(x), ops.ones_like(x))

        def slope(x, v=v):
            _, _, (g,) = differentiate(lambda x: (function(x), ()), [x], again=True)
            return ops.sum(g * v), ()

        _, _, (hv,) = differentiate(slope, [x])
        total = total + ops.sum(hv * v)
    return total / samples
