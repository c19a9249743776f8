"""
Two instruments in a spectrogram
================================

Power and magnitude spectra are sums of their sources, roughly, and their errors grow with their size. That is what the
Kullback-Leibler divergence is for.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import stft

from diffnmf import NMF
from diffnmf.factorization import MU

# %%
# Two seconds of sound: a low tone and a high one, each with its overtones, struck at times of their own.

rate = 8000
time = np.arange(2 * rate) / rate
random = np.random.default_rng(0)


def instrument(pitch: float, strikes: list[float]) -> np.ndarray:
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 6))
    envelope = sum(np.where(time > start, np.exp(-6 * (time - start)), 0.0) for start in strikes)
    return np.asarray(tone * envelope)


sound = instrument(330, [0.1, 0.7, 1.3]) + instrument(523, [0.4, 0.7, 1.6]) + 0.01 * random.standard_normal(len(time))
frequencies, frames, spectrum = stft(sound, rate, nperseg=512)
V = np.abs(spectrum)  # (257 frequencies, frames)

# %%
# ``extrapolate=True`` takes less than half of the iterations of the plain multiplicative updates.

model = NMF(2, solver=MU("kullback-leibler", extrapolate=True), random_state=0, tol=1e-3, max_iter=500)
activity = model.fit_transform(V.T)  # (frames, 2); a frame is a sample
print(f"{model.n_iter_} iterations")

# %%
# The spectrogram, the spectrum of each component, and when it sounds.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
left.pcolormesh(frames, frequencies, np.log10(V + 1e-4))
left.set(title="spectrogram", xlabel="seconds", ylabel="hertz", ylim=(0, 3000))
for component, weights in zip(model.components_, activity.T, strict=True):
    middle.plot(frequencies, component / component.max())
    right.plot(frames, weights / weights.max())
middle.set(title="components", xlabel="hertz", xlim=(0, 3000))
right.set(title="when they sound", xlabel="seconds")
plt.show()
