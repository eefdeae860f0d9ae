"""An LSTM in both directions over one text, step by step."""

import numpy as np


def read(words, kernel, recurrent, bias):
    """States (length, hidden) of one direction."""
    hidden = len(recurrent)
    state, cell, states = np.zeros(hidden), np.zeros(hidden), []
    for word in words:
        gates = np.split(word @ kernel + state @ recurrent + bias, 4)
        enter, keep, out = (1 / (1 + np.exp(-gate)) for gate in gates[:3])
        cell = keep * cell + enter * np.tanh(gates[3])
        state = out * np.tanh(cell)
        states.append(state)
    return np.array(states).reshape(-1, hidden)


def read_both_ways(words, weights):
    """States (length, 2 · hidden) of layers whose weights come one after the other."""
    for first in range(0, len(weights), 6):
        forward = read(words, *weights[first : first + 3])
        backward = read(words[::-1], *weights[first + 3 : first + 6])
        words = np.concatenate([forward, backward[::-1]], axis=1)
    return words
