"""What is written for PyTorch alone."""

import warnings
from contextlib import nullcontext

import keras
import numpy as np
import torch
from torch.nn.attention import SDPBackend
from torch.nn.attention import sdpa_kernel
from torch.utils.checkpoint import checkpoint


def fill(variable, array):
    """Copy an array into a variable in place, turned and cast on the way."""
    bfloat16 = array.dtype.name == 'bfloat16'
    with warnings.catch_warnings():
        # Read-only arrays make Torch warn of writing to them, which we do not.
        warnings.filterwarnings('ignore', message='.*not writable')
        tensor = torch.from_numpy(array.view(np.int16) if bfloat16 else array)
    tensor = tensor.view(torch.bfloat16) if bfloat16 else tensor
    with torch.no_grad():
        variable.value.copy_(tensor)


def fused_attention(q, k, v, seen, causal):
    """See `keraseff.backends.fused_attention`."""
    if seen is not None:
        # Not the bool itself: a query that sees nothing would get NaN.
        lowest = torch.finfo(q.dtype).min / 2
        seen = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, lowest)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if _is_slow(q, k):
        scores = q @ k.transpose(-1, -2)
        if causal:
            scores = scores + torch.full_like(scores[0, 0], -torch.inf).triu(1)
        elif seen is not None:
            scores = scores + seen
        return (scores.softmax(-1) @ v).transpose(1, 2)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=seen, is_causal=causal, scale=1.0
    )
    return mixed.transpose(1, 2)


def _is_slow(q, k):
    """Whether the kernel would take 1.4 to 3 times as long as what it fuses."""
    on_cpu = q.device.type == 'cpu' and q.dtype == torch.bfloat16
    return on_cpu and q.shape[-2] * k.shape[-2] <= 512 * 512


def fused_normalization(x, gamma, beta, epsilon):
    """See `keraseff.backends.fused_normalization`."""
    return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def dropout(x, rate):
    """See `keraseff.backends.dropout`.

    On a CPU drawing a number for each element takes most of the time: here four of 16
    bits are drawn at once, so that the rate is rounded to a multiple of 2 ** -16.
    """
    if x.device.type != 'cpu':
        return torch.nn.functional.dropout(x, rate)
    count = x.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = drawn.view(torch.int16)[:count].view(x.shape)
    return x * ((drawn >= round(rate * 2**16) - 2**15) * (1 / (1 - rate))).to(x.dtype)


def fused_adam(variable, gradient, slots, rate, betas, epsilon, step):
    """See `keraseff.backends.fused_adam`."""
    value = variable.value
    # Tensors, for a number would have to wait until a GPU has computed it.
    step, rate = (keras.ops.convert_to_tensor(x, 'float32') for x in (step, rate))
    with torch.no_grad():
        torch._fused_adam_(
            [value],
            [gradient.contiguous()],
            [slots[0].value],
            [slots[1].value],
            [],
            [step],
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=epsilon,
            amsgrad=False,
            maximize=False,
        )


def differentiate(function, values, again):
    """See `keraseff.backends.differentiate`."""
    if not again:
        values = [v.detach() for v in values]
    values = [v if v.requires_grad else v.requires_grad_() for v in values]
    # Fused attention has no second derivatives.
    kernel = sdpa_kernel(SDPBackend.MATH) if again else nullcontext()
    with torch.enable_grad(), kernel:
        value, aux = function(*values)
    gradients = torch.autograd.grad(
        value, values, create_graph=again, allow_unused=True
    )
    pairs = zip(gradients, values, strict=True)
    return aux, [torch.zeros_like(v) if g is None else g for g, v in pairs]


def set_objective(model, objective, constants):
    """See `keraseff.backends.set_objective`."""

    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        model.zero_grad()
        loss, y_pred = objective(x, y, sample_weight)
        first = next(i for i in keras.tree.flatten(x) if i is not None)
        model._loss_tracker.update_state(loss.detach(), sample_weight=first.shape[0])
        model.optimizer.scale_loss(loss).backward()
        variables = model.trainable_variables
        gradients = [v.value.grad for v in variables]
        with torch.no_grad():
            model.optimizer.apply(gradients, variables)
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    model.train_step = train_step


def repeatable():
    """See `keraseff.backends.repeatable`."""
    cuda = torch.cuda.is_available()
    return torch.random.fork_rng([torch.cuda.current_device()] if cuda else [])


without_gradients = torch.no_grad


def random_state():
    """See `keraseff.backends.random_state`."""
    states = {'torch': torch.get_rng_state()}
    if torch.cuda.is_available():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f'cuda.{i}'] = state
    return {name: state.numpy() for name, state in states.items()}


def set_random_state(state):
    """See `keraseff.backends.set_random_state`."""
    for name, array in state.items():
        if name == 'torch':
            torch.set_rng_state(torch.from_numpy(array))
        elif name.startswith('cuda.') and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.from_numpy(array), int(name[5:]))


def fit_input(stream):
    """See `keraseff.backends.fit_input`."""
    return iter(stream)


def recomputed(function, values):
    """See `keraseff.backends.recomputed`; Torch's own random numbers come again."""
    others = []

    def floats(*values):
        found, rest = function(*values)
        others.append(rest)
        return tuple(found)

    found = checkpoint(floats, *values, use_reentrant=False)
    return found, others[0]


def devices():
    """See `keraseff.backends.devices`."""
    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(i) for i in range(count)] or ['cpu']


def compiled(function):
    """See `keraseff.backends.compiled`; PyTorch runs as it goes."""
    return function


def assign_in_place(variable, method, value):
    """See `keraseff.backends.assign_in_place`."""
    with torch.no_grad():
        getattr(variable.value, method)(keras.ops.convert_to_tensor(value))


def between(a, b, share):
    """See `keraseff.backends.between`."""
    return torch.lerp(a, b, torch.as_tensor(share, dtype=a.dtype, device=a.device))


def add_rows(x, rows, count):
    """See `keraseff.backends.add_rows`."""
    return x.new_zeros((count, *x.shape[1:])).index_add(0, rows, x)


def add_matmul(x, a, b):
    """See `keraseff.backends.add_matmul`."""
    return torch.baddbmm(x, a, b)
