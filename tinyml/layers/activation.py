"""Activations. The derivations are on the page docs/activations.md."""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from tinyml.arrays import check_shape
from tinyml.core.initial import constant
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.functional.activation import axis_of, gelu_kind, prelu_gradient
from tinyml.layers.base import Layer
from tinyml_backends import backend_for
from tinyml_backends.arguments import integer, number
from tinyml_backends.arrays import Array, quiet


class Saved(NamedTuple):
    """What ``forward`` saves for ``backward``."""

    array: Array
    dtype: "np.dtype[Any]"
    """Dtype of the output, and of the gradient with respect to the input."""


class Activation(Layer):
    """Base class of activations: a formula of the backend's table, and its options.

    Takes an array of any shape. The output has the input's dtype or, for integers, float32.
    """

    kind: str
    rectifies: ClassVar[bool] = False
    """Whether it suppresses negative values, so that the rules of `reverse` apply."""
    saved: Saved | None

    def options(self) -> dict[str, Any]:
        """Options of the formula."""
        return {}

    def forward(self, x: Array) -> Array:
        """Activation of ``x``."""
        self.check_numbers("input", x)
        y, array = backend_for(x).activate(self.kind, x, **self.options())
        self.saved = Saved(array, y.dtype)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input."""
        array, dtype = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, array.shape)
        backend = backend_for(in_gradient, array)
        gradient = backend.activate_gradient(self.kind, in_gradient, array, **self.options())
        return gradient.astype(dtype, copy=False)

    def reverse(self, signal: Array, rule: str) -> Array:
        """The gradient; rectifiers also apply the rules of `tinyml.visualize.deconvnet`."""
        if self.rectifies and rule != "gradient":
            signal, _ = backend_for(signal).activate("relu", signal)
            if rule == "deconvnet":
                return signal
        reversed_signal: Array = self.backward(signal)
        return reversed_signal


class ReLU(Activation):
    """Rectified linear unit, ``max(0, x)``, for an array of any shape.

    Its derivative is 1 where ``x > 0`` and 0 elsewhere, 0 included. NaN stays NaN.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import ReLU
    >>> relu = ReLU("relu")
    >>> relu(np.array([[-2.0, 0.0, 3.0]]))
    array([[0., 0., 3.]])
    >>> relu.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0., 0., 1.]])
    """

    kind = "relu"
    rectifies = True


#: The original's spelling.
ReLu = ReLU


class LeakyReLU(Activation):
    """``x`` where ``x > 0``, and ``slope · x`` elsewhere.

    Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models",
    ICML 2013.

    Parameters
    ----------
    name : str
    slope : float

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import LeakyReLU
    >>> LeakyReLU("leaky", slope=0.1)(np.array([-2.0, 3.0]))
    array([-0.2,  3. ])
    """

    kind = "leaky_relu"
    rectifies = True
    slope = Number()

    def __init__(self, name: str, slope: float = 0.01) -> None:
        super().__init__(name)
        self.slope = slope

    def options(self) -> dict[str, Any]:
        """The slope."""
        return {"slope": self.slope}


class PReLU(Activation):
    """``x`` where ``x > 0``, and ``slope · x`` elsewhere, where the slope is learned.

    He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015.

    Parameters
    ----------
    name : str
    channels : int
        One slope for each channel of inputs (samples, channels, …), or 1 for a single one.
    slope : float
        Initial slope.

    Attributes
    ----------
    slope : Parameter, (channels,)

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import PReLU
    >>> PReLU("prelu", channels=2)(np.array([[-2.0, 3.0]]))
    array([[-0.5,  3. ]])
    """

    kind = "prelu"
    rectifies = True

    def __init__(self, name: str, channels: int = 1, slope: float = 0.25) -> None:
        super().__init__(name)
        self.channels = integer(f"{self!r}: channels", channels, 1)
        self.slope = Parameter(constant(self.channels, number(f"{self!r}: slope", slope)))

    def forward(self, x: Array) -> Array:
        """Activation of ``x`` (samples, channels, …), or of any shape for a single slope."""
        if self.channels > 1:
            trailing = ("…",) * (x.ndim - 2) if hasattr(x, "ndim") else ()
            self.check("input", x, ("samples", self.channels, *trailing))
        return super().forward(x)

    def options(self) -> dict[str, Any]:
        """The slopes."""
        return {"slope": self.slope.tensor}

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; that of the slopes is added to theirs."""
        x, dtype = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, x.shape)
        gradient, of_slope = prelu_gradient(in_gradient, x, self.slope.tensor)
        self.slope.gradient += of_slope
        return gradient.astype(dtype, copy=False)


class ELU(Activation):
    """Exponential linear unit: ``x`` where ``x > 0``, and ``alpha · (exp(x) − 1)`` elsewhere.

    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential
    Linear Units (ELUs)", ICLR 2016.

    Parameters
    ----------
    name : str
    alpha : float

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import ELU
    >>> ELU("elu")(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """

    kind = "elu"
    rectifies = True
    alpha = Number()

    def __init__(self, name: str, alpha: float = 1.0) -> None:
        super().__init__(name)
        self.alpha = alpha

    def options(self) -> dict[str, Any]:
        """The factor ``alpha``."""
        return {"alpha": self.alpha}


class GELU(Activation):
    """Gaussian error linear unit, ``x · Φ(x)``, where Φ is the normal distribution function.

    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, arXiv:1606.08415.

    Parameters
    ----------
    name : str
    approximate : "none" or "tanh"
        "tanh" replaces Φ by ``½ (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import GELU
    >>> GELU("gelu")(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """

    rectifies = True

    def __init__(self, name: str, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__(name)
        self.kind = gelu_kind(approximate)
        self.approximate = approximate


class SiLU(Activation):
    """Sigmoid linear unit, also called swish: ``x · sigmoid(x)``.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import SiLU
    >>> SiLU("silu")(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """

    kind = "silu"
    rectifies = True


class Sigmoid(Activation):
    """Logistic function, ``1 / (1 + exp(−x))``.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Sigmoid
    >>> Sigmoid("sigmoid")(np.array([-1.0, 0.0, 1.0])).round(4)
    array([0.2689, 0.5   , 0.7311])
    """

    kind = "sigmoid"


class Tanh(Activation):
    """Hyperbolic tangent.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Tanh
    >>> Tanh("tanh")(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """

    kind = "tanh"


class Softmax(Activation):
    """``exp(x) / Σ exp(x)`` along an axis: probabilities of classes.

    `SoftmaxCrossEntropy` contains it, and takes the numbers before it.

    Parameters
    ----------
    name : str
    axis : int
        Axis of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Softmax
    >>> Softmax("softmax")(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """

    kind = "softmax"

    def __init__(self, name: str, axis: int = 1) -> None:
        super().__init__(name)
        self.axis = axis

    def options(self) -> dict[str, Any]:
        """The axis."""
        return {"axis": self.axis}

    def forward(self, x: Array) -> Array:
        """Softmax, or its logarithm, along the axis."""
        axis_of(f"{self!r}: axis", self.axis, x)
        return super().forward(x)


class LogSoftmax(Softmax):
    """``x − log Σ exp(x)`` along an axis: logarithms of the probabilities of classes.

    Parameters
    ----------
    name : str
    axis : int
        Axis of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import LogSoftmax
    >>> LogSoftmax("log_softmax")(np.zeros((1, 2))).round(4)
    array([[-0.6931, -0.6931]])
    """

    kind = "log_softmax"
