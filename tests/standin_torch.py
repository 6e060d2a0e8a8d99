"""As much of PyTorch as the training loops of the documentation use, in NumPy.

The loops train with PyTorch itself where it is installed.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np


def use_standin_torch(monkeypatch):
    """Let ``import torch`` find the stand-in, unless PyTorch is installed."""
    if find_spec("torch") is None:
        for name, module in modules().items():
            monkeypatch.setitem(sys.modules, name, module)


class Tensor:
    """Numbers; with the inputs and the layer that made them, if they need gradients."""

    def __init__(self, values, inputs=None, layer=None):
        self.values, self.inputs, self.layer = np.asarray(values), inputs, layer
        self.shape = self.values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        return Tensor(self.values[rows])

    def detach(self):
        return Tensor(self.values)

    def cpu(self):
        return self

    def numpy(self):
        if self.layer is not None:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return self.values


class Linear:
    def __init__(self, width, classes):
        self.weight, self.gradient = np.zeros((classes, width), np.float32), None

    def __call__(self, inputs):
        return Tensor(inputs.values @ self.weight.T, inputs.values, self)

    def parameters(self):
        return [self]


class CrossEntropy:
    def __init__(self, logits, labels):
        powers = np.exp(logits.values - logits.values.max(axis=1, keepdims=True))
        self.slope = powers / powers.sum(axis=1, keepdims=True)
        self.slope[np.arange(len(labels)), labels.values] -= 1
        self.logits = logits

    def backward(self):
        layer, inputs = self.logits.layer, self.logits.inputs
        layer.gradient = self.slope.T @ inputs / len(inputs)


class SGD:
    def __init__(self, parameters, lr):
        self.parameters, self.lr = parameters, lr

    def zero_grad(self):
        for one in self.parameters:
            one.gradient = None

    def step(self):
        for one in self.parameters:
            one.weight = one.weight - self.lr * one.gradient


class TensorDataset:
    def __init__(self, *tensors):
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors[0])

    def __getitem__(self, rows):
        return tuple(tensor[rows] for tensor in self.tensors)


class Subset:
    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, rows):
        return self.dataset[self.indices[rows]]


class DataLoader:
    def __init__(self, dataset, batch_size, shuffle):
        assert shuffle
        self.dataset, self.batch_size = dataset, batch_size

    def __iter__(self):
        order = np.random.permutation(len(self.dataset))
        for first in range(0, len(order), self.batch_size):
            yield self.dataset[order[first : first + self.batch_size]]


def modules():
    torch, data = ModuleType("torch"), ModuleType("torch.utils.data")
    torch.from_numpy = Tensor
    torch.arange = lambda n: Tensor(np.arange(n))
    torch.nn, torch.optim, torch.utils = (
        ModuleType(f"torch.{name}") for name in ("nn", "optim", "utils")
    )
    torch.nn.Linear, torch.optim.SGD = Linear, SGD
    torch.nn.functional = ModuleType("torch.nn.functional")
    torch.nn.functional.cross_entropy = CrossEntropy
    data.DataLoader, data.Subset, data.TensorDataset = DataLoader, Subset, TensorDataset
    torch.utils.data = data
    found = (torch, torch.nn, torch.nn.functional, torch.optim, torch.utils, data)
    return {module.__name__: module for module in found}
