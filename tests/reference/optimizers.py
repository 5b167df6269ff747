"""Optimizers step by step in NumPy, and a loop that drives those of Keras."""

import keras
import numpy as np


def variables(start):
    """Keras variables of these {path: array}."""
    made = []
    for path, value in start.items():
        scope, name = path.split('/')
        with keras.name_scope(scope):
            made.append(keras.Variable(value, name=name))
    return made


def train(optimizer, start, gradients):
    """{path: array} after each of a list of {path: gradient}."""
    weights = variables(start)
    course = []
    for step in gradients:
        tensors = [keras.ops.convert_to_tensor(step[path]) for path in start]
        optimizer.apply(tensors, weights)
        course.append({w.path: keras.ops.convert_to_numpy(w).copy() for w in weights})
    return course


class Adam:
    """p, g, lr -> p, with the two averages within."""

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-6, bias_correction=True):
        self.betas, self.epsilon, self.correct = (
            (beta_1, beta_2),
            epsilon,
            bias_correction,
        )
        self.m = self.v = 0.0
        self.t = 0

    def __call__(self, p, g, lr):
        (b1, b2), self.t = self.betas, self.t + 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        m, v = self.m, self.v
        if self.correct:
            m, v = m / (1 - b1**self.t), v / (1 - b2**self.t)
        return p - lr * m / (np.sqrt(v) + self.epsilon)


def lookahead(p, gradients, step, lr, k, alpha):
    """Zhang et al., 2019, algorithm 1."""
    slow, course = p, []
    for t, g in enumerate(gradients, 1):
        p = step(p, g, lr)
        if t % k == 0:
            slow = slow + alpha * (p - slow)
            p = slow
        course.append(p)
    return course


def accumulated(p, gradients, step, lr, k):
    """One step with the mean of each k gradients, in the moment the k-th comes."""
    course = []
    for t in range(1, len(gradients) + 1):
        if t % k == 0:
            p = step(p, np.mean(gradients[t - k : t], axis=0), lr)
        course.append(p)
    return course


def averaged(course, momentum):
    """The corrected moving average of a course: weights that sum to 1."""
    shares = momentum ** np.arange(len(course))[::-1]
    return np.tensordot(shares / shares.sum(), np.stack(course), 1)


def pretraining(p, gradients, step, lr, k, points, decay):
    """Accumulation over a piecewise rate over layer adaptation over weight decay."""
    steps, factors = zip(*sorted(points.items()), strict=True)
    course = []
    for t in range(1, len(gradients) + 1):
        if t % k == 0:
            rate = lr * np.interp(t - 1, (0, *steps), (0, *factors))
            new = step(p, np.mean(gradients[t - k : t], axis=0), rate)
            delta = new - rate * decay * p - p
            length = np.linalg.norm(delta) / rate if rate else 0
            p = p + (np.linalg.norm(p) / length * delta if length else delta)
        course.append(p)
    return course


def tiger(p, gradients, lr, kind, k=1, beta=0.965, decay=0.01, shrink=0.99):
    """Tiger for one weight; kind is 'matrix', 'embeddings', 'gamma' or 'bias'."""
    m, course = np.zeros_like(p), []
    for t, g in enumerate(gradients):
        if np.isnan(g).any():
            centre = 1 if kind == 'gamma' else 0
            p = centre + (p - centre) * shrink
        else:
            m = (beta if t % k == 0 else 1) * m + (1 - beta) / k * g
            if (t + 1) % k == 0:
                if kind in ('gamma', 'bias'):
                    p = p - lr * 0.5 * np.sign(m)
                else:
                    axis = -1 if kind == 'embeddings' else None
                    size = np.sqrt(np.mean(p**2, axis=axis, keepdims=True))
                    p = p - lr * size * (np.sign(m) + decay * p)
        course.append(p)
    return course
