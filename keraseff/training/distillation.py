"""Training a student to give what a teacher gives."""

import keras
from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import check_number
from keraseff.training.arguments import model_of
from keraseff.training.divergence import Divergence
from keraseff.training.divergence import gives_logits
from keraseff.training.divergence import masked_mean
from keraseff.training.layers import find_layer
from keraseff.training.layers import watched
from keraseff.training.objective import Batch
from keraseff.training.objective import Objective
from keraseff.training.objective import mask_of
from keraseff.training.objective import minimise


class Distillation(Objective):
    """(1 - α) loss + α T² KL(teacher ‖ student) + hidden states; see `distill`.

    Args:
        inner: the objective that it wraps.
        teacher: a built `keras.Model`.
        alpha: α.
        divergence: a `Divergence` with the temperature T.
        hidden: {student's layer: teacher's layer}.
        hidden_weight: of the mean squared difference of each pair.
        projections: as in `distill`.
    """

    def __init__(
        self, inner, teacher, alpha=0.5, divergence=None, hidden=None,
        hidden_weight=1.0, projections=None,
    ):  # fmt: skip
        super().__init__(inner)
        check_number(least=0, hidden_weight=hidden_weight)
        check_number(least=0, alpha=alpha, most=1.0)
        self.teacher, self.alpha = model_of(teacher), alpha
        self.divergence = divergence or Divergence()
        self.hidden, self.hidden_weight = hidden or {}, hidden_weight
        self.given = projections

    def attach(self, model):
        """Find the layers, and make what projects between them."""
        _check_outputs(model, self.teacher)
        if self.divergence.target_from_logits is None:
            seen = [gives_logits(x) for x in keras.tree.flatten(self.teacher.outputs)]
            self.divergence.target_from_logits = seen
        self.divergence.attach(model)
        self.student_layers = [find_layer(model, name) for name in self.hidden]
        names = self.hidden.values()
        self.teacher_layers = [find_layer(self.teacher, name) for name in names]
        self.projections = [None] * len(self.hidden)
        if isinstance(self.given, str):
            self._learn_projections(model)
        elif self.given is not None:
            self.projections = [ops.convert_to_tensor(p, 'float32') for p in self.given]
        self._check_projections()

    def _learn_projections(self, model):
        if self.given != 'learned':
            raise ValueError(f"projections={self.given!r}: 'learned', arrays, or None.")
        if model.optimizer.built:
            raise ValueError(
                'the optimizer has its slots already and would not train new '
                'projections; call model.compile again, then distill.'
            )
        layers = []
        for i, (student, teacher) in enumerate(self._widths()):
            options = {'use_bias': False, 'name': f'projection_{i}', 'dtype': 'float32'}
            layers.append(keras.layers.Dense(teacher, **options))
            layers[-1].build((None, student))
        self.projections = layers
        # The model trains what it owns.
        model.distillation_projections = layers

    def detach(self, model):
        """Take learned projections out of the model, and out of its optimizer."""
        if isinstance(self.given, str):
            for layer in self.projections:
                model._layers.remove(layer)
            del model.distillation_projections
            if model.optimizer.built:
                model.optimizer = _without_slots(model.optimizer, model)

    def _widths(self):
        pairs = zip(self.student_layers, self.teacher_layers, strict=True)
        return [(_width(s), _width(t)) for s, t in pairs]

    def _check_projections(self):
        pairs = list(self.hidden.items())
        for pair, widths, p in zip(
            pairs, self._widths(), self.projections, strict=True
        ):
            shape = tuple(p.shape) if ops.is_tensor(p) else None
            if p is None and widths[0] != widths[1] or shape not in (None, widths):
                raise ValueError(
                    f'{pair[0]!r} gives {widths[0]} channels and {pair[1]!r} of the '
                    f'teacher {widths[1]}, with a projection of shape {shape}; give '
                    f'arrays {widths}, or projections="learned".'
                )

    def constants(self):
        """The teacher's variables."""
        return self.teacher.variables

    def prepare(self, batch):
        """Let the teacher speak, once a step."""
        states = [None] * len(self.teacher_layers)
        with backends.without_gradients(), watched(self.teacher_layers, _note(states)):
            outputs = self.teacher(batch.x, training=False)
        said = outputs, states
        batch.notes[self] = keras.tree.map_structure(ops.stop_gradient, said)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        return self.inner(_Taught(batch, self))

    def mixed(self, batch, loss, y_pred, states):
        """The loss with what the teacher adds to it."""
        target, taught = batch.notes[self]
        heat = self.divergence.temperature**2
        extra = self.alpha * heat * self.divergence(batch, target, y_pred)
        for student, teacher, projection in zip(
            states, taught, self.projections, strict=True
        ):
            extra = extra + self.hidden_weight * _difference(
                student, teacher, projection
            )
        # Regularizers weigh what they weigh, whoever teaches.
        kept = self.alpha * batch.regularisation()
        return (1 - self.alpha) * loss + kept + ops.cast(extra, loss.dtype)


class _Taught(Batch):
    """A batch whose loss has the teacher's part in it, whoever asks for it."""

    def __init__(self, batch, trick):
        super().__init__(batch.model, batch.x, batch.y, batch.sample_weight)
        self.batch, self.trick, self.notes = batch, trick, batch.notes
        self.states = [None] * len(trick.student_layers)

    def predict(self, x=None, training=True):
        with watched(self.trick.student_layers, _note(self.states)):
            return self.batch.predict(x, training)

    def loss(self, y_pred):
        plain = self.batch.loss(y_pred)
        return self.trick.mixed(self, plain, y_pred, self.states)


def _without_slots(optimizer, model):
    """The same for the model's variables alone: a file of both could not be read."""
    values = {}
    for variable in optimizer.variables:
        values.setdefault(variable.path, []).append(variable.value)
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(model.trainable_variables)
    for variable in fresh.variables:
        variable.assign(values[variable.path].pop(0))
    return fresh


def _note(states):
    def note(i, inputs, outputs):
        states[i] = keras.tree.flatten(outputs)[0]
        return outputs

    return note


def _difference(student, teacher, projection):
    mask = mask_of(student)
    student, teacher = ops.cast(student, 'float32'), ops.cast(teacher, 'float32')
    if projection is not None:
        kernel = projection if ops.is_tensor(projection) else projection.kernel
        student = ops.matmul(student, kernel)
    return masked_mean(ops.mean(ops.square(student - teacher), axis=-1), mask)


def _width(layer):
    return keras.tree.flatten(layer.output)[0].shape[-1]


def _check_outputs(student, teacher):
    for one, what in (student, 'student'), (teacher, 'teacher'):
        if not getattr(one, 'outputs', None):
            raise ValueError(
                f'the {what}, {one.name!r}, is no functional model, so its outputs and '
                'layers are not known; make one of it: '
                'keras.Model(inputs, its(inputs)).'
            )
    mine = [tuple(x.shape) for x in keras.tree.flatten(student.output)]
    theirs = [tuple(x.shape) for x in keras.tree.flatten(teacher.output)]
    if [s[-1] for s in mine] != [s[-1] for s in theirs]:
        raise ValueError(
            f'the student gives {mine} and the teacher {theirs}; the last axes have to '
            'be the same classes.'
        )


def distill(
    model, teacher, temperature=2.0, alpha=0.5, hidden=None, hidden_weight=1.0,
    projections=None, kind=None, from_logits=None, weighted=False,
    teacher_from_logits=None,
):  # fmt: skip
    """Train a model to give what a teacher gives.

    Args:
        model: a compiled functional `keras.Model`, the student.
        teacher: a functional one with the same inputs and classes; it stays as it is,
            and is not saved with the student.
        temperature: T, by which both scores are divided.
        alpha: the loss is (1 - α) loss + α T² KL(teacher ‖ student), α from 0 to 1;
            weights' regularizers count whole.
        hidden: {name of a student's layer: of a teacher's} whose outputs are to be
            alike, or None.
        hidden_weight: of the mean squared difference of each pair.
        projections: arrays (student's width, teacher's width) that multiply the
            student's states, one for each pair; 'learned' to train such; None where
            the widths agree.
        kind: 'softmax' for classes of which one is right, 'sigmoid' for independent
            ones, a function (teacher's, student's) -> (…), or a list of these for
            several outputs; by default it follows from the student's compiled loss.
        from_logits: whether the student's outputs are scores, not probabilities; by
            default what its compiled loss says.
        weighted: whether sample_weight weighs the teacher's part too; else rows of
            weight 0, which need no labels, learn from the teacher.
        teacher_from_logits: whether the teacher's outputs are scores, whatever the
            student's are; by default its last activation tells, and where that is
            neither softmax nor sigmoid nor a linear Dense, they are taken to be of the
            student's kind.

    Returns the model.  Learned projections are the model's until `train_plainly`: take
    the tricks off before saving the student for good.  A `.keras` file from within the
    training has them and their slots beside, and opens with compile=False.

    Raises ValueError if the model is not compiled, or one of them is not functional, or
    layers or widths do not fit.
    Hinton et al., 2015, https://arxiv.org/abs/1503.02531; hidden states with
    projections: TinyBERT, https://arxiv.org/abs/1909.10351
    """
    check_number(temperature=temperature, least=1e-6)
    divergence = Divergence(
        kind, from_logits, weighted, temperature, teacher_from_logits
    )
    return minimise(
        model, Distillation, teacher=teacher, alpha=alpha, divergence=divergence,
        hidden=hidden, hidden_weight=hidden_weight, projections=projections,
    )  # fmt: skip
