"""The penalties of the estimators as scikit-learn names them."""

from typing import Any, NamedTuple

from diffnmf.checks import check_number


class Alphas(NamedTuple):
    """Of the weights, of the components, and the share of the sum in both; the rest is half the squared norm."""

    W: float
    H: float
    l1_ratio: float

    @staticmethod
    def of(model: Any) -> "Alphas":
        """Those of an estimator.

        Raises:
            TypeError, ValueError: one of them is no such number; the message names it.
        """
        W = check_number("alpha_W", model.alpha_W)
        same = isinstance(model.alpha_H, str) and model.alpha_H == "same"
        H = W if same else check_number("alpha_H", model.alpha_H, alternative="'same'")
        return Alphas(W, H, check_number("l1_ratio", model.l1_ratio, "[0, 1]"))

    def of_W(self, features: int) -> tuple[float, float]:
        """l1 and ridge of W, in the scaling of scikit-learn."""
        return self._split(self.W * features)

    def of_H(self, samples: int) -> tuple[float, float]:
        """l1 and ridge of H, in the scaling of scikit-learn."""
        return self._split(self.H * samples)

    def _split(self, alpha: float) -> tuple[float, float]:
        return alpha * self.l1_ratio, alpha * (1 - self.l1_ratio)
