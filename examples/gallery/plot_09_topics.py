"""
Topics of texts
===============

A text is a row of word counts, and a topic a group of words that come together. Sparse matrices of SciPy stay sparse.
"""

import matplotlib.pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer

from diffnmf import NMF

texts = [
    "The cat sleeps and the dog barks at the cat.",
    "A dog runs after a cat, and the cat climbs a tree.",
    "The dog and the cat eat, and the cat sleeps.",
    "Bake the bread with flour, butter and salt.",
    "Flour, sugar and butter make a cake; bake it slowly.",
    "The cake needs sugar, the bread needs salt and flour.",
    "The moon hides the sun, and the stars appear.",
    "A telescope shows the stars and the moon.",
    "The sun is one of many stars; the moon is none.",
    "The dog barks at the moon.",
]
words = TfidfVectorizer(stop_words="english")
X = words.fit_transform(texts)  # a CSR matrix, (10, words)
names = words.get_feature_names_out()

# %%
# Three topics. The weights say how much of each a text holds: the last one is about two of them.

model = NMF(n_components=3, random_state=0, max_iter=1000)
weights = model.fit_transform(X)
for component in model.components_:
    print(", ".join(names[i] for i in component.argsort()[::-1][:5]))

# %%
# Texts in columns, topics in rows.

figure, axes = plt.subplots(figsize=(9, 2.4), layout="constrained")
axes.imshow(weights.T, cmap="Blues")
axes.set(xlabel="text", ylabel="topic", xticks=range(len(texts)), yticks=range(3))
plt.show()
