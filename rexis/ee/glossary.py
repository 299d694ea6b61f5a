"""The words of the leakage card's page, for a reader who knows no linear algebra."""

from __future__ import annotations

GLOSSARY: dict[str, str] = {
    "rung": "How private the weights are said to be: ee-outsourced, or ee-private-weights where every layer is far "
    "from a public model's.",
    "axis, place": "A direction of a table of numbers: features, channels, tokens, heads. A place is one position "
    "along it.",
    "in the clear": "Readable by whoever holds the encrypted model or record, without any key.",
    "permutation": "The order is changed, the values stay: which values there are remains visible.",
    "sign, scale, positive scale": "Each value is negated or not, or multiplied by a secret number.",
    "trivial": "Nothing is done along this axis.",
    "⊗": "Two keys act on one axis, each along its part of it.",
    "invertible, orthogonal, orthogonal fixing ones": "Each value becomes a mixture of all. Orthogonal mixtures "
    "keep distances between records exactly, invertible ones roughly; one that fixes ones keeps averages too.",
    "offset": "A secret constant is added, so that zero does not stay zero.",
    "vocabulary": "How many different symbols a record of text or sequence is made of.",
    "condition number": "How unevenly a key stretches distances: 1 is not at all. Rounding errors grow with it.",
    "bits, real parameters": "How many yes-or-no choices, and how many numbers, a key is made of. Many are no strength "
    "by themselves: known records solve for them.",
    "relative distance": "How far a layer is from the public model's, divided by the public layer's length: 0 % is the "
    "same layer, about 141 % an unrelated one of the same length.",
}
