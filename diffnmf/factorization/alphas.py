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
        return Alphas.checked(model.alpha_W, model.alpha_H, model.l1_ratio)

    @staticmethod
    def checked(alpha_W: Any, alpha_H: Any, l1_ratio: Any) -> "Alphas":
        """Those of parameters of these names, with the same errors."""
        W = check_number("alpha_W", alpha_W)
        same = isinstance(alpha_H, str) and alpha_H == "same"
        H = W if same else check_number("alpha_H", alpha_H, alternative="'same'")
        return Alphas(W, H, check_number("l1_ratio", l1_ratio, "[0, 1]"))

    def of_W(self, features: int) -> tuple[float, float]:
        """l1 and ridge of W, in the scaling of scikit-learn."""
        return self._split(self.W * features)

    def of_H(self, samples: int) -> tuple[float, float]:
        """l1 and ridge of H, in the scaling of scikit-learn."""
        return self._split(self.H * samples)

    def penalties(self, samples: int, features: int) -> dict[str, float]:
        """As ``factorize`` takes them."""
        (l1_W, ridge_W), (l1_H, ridge_H) = self.of_W(features), self.of_H(samples)
        return {"l1_H": l1_H, "l1_W": l1_W, "ridge_H": ridge_H, "ridge_W": ridge_W}

    def _split(self, alpha: float) -> tuple[float, float]:
        return alpha * self.l1_ratio, alpha * (1 - self.l1_ratio)
