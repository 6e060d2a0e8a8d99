"""As much of Hugging Face ``datasets`` and sentence-transformers as the recipes use.

``datasets`` itself is used where it is installed. Models of sentence-transformers would have to be
downloaded, so that the stand-in is always used.
"""

import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def use_standins(monkeypatch):
    """Let ``import`` find the stand-ins."""
    sentence_transformers = ModuleType("sentence_transformers")
    sentence_transformers.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", sentence_transformers)
    if find_spec("datasets") is None:
        datasets = ModuleType("datasets")
        datasets.load_dataset = load_dataset
        monkeypatch.setitem(sys.modules, "datasets", datasets)


class SentenceTransformer:
    """Embeddings that add up a random vector of each word."""

    def __init__(self, name):
        self.name = name

    def encode(self, sentences, batch_size):
        assert all(isinstance(text, str) for text in sentences) and batch_size > 0
        found = np.stack([sum(map(self._vector, text.split())) for text in sentences])
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def _vector(word):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(16)


def load_dataset(kind, data_files, split):
    assert kind == "parquet" and split == "train"
    return Dataset(
        pa.concat_tables(pq.read_table(path) for path in sorted(Path().glob(data_files)))
    )


class Dataset:
    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitem__(self, name):
        return self.table[name].to_pylist()

    def select(self, indices):
        return Dataset(self.table.take(pa.array(indices)))

    def add_column(self, name, column):
        return Dataset(self.table.append_column(name, pa.array(column)))

    def to_parquet(self, path):
        pq.write_table(self.table, path)

    def save_to_disk(self, folder):
        name = "data-00000-of-00001.arrow"
        Path(folder).mkdir()
        with pa.ipc.new_stream(Path(folder, name), self.table.schema) as stream:
            stream.write_table(self.table)
        state = {
            "_data_files": [{"filename": name}],
            "_indices_data_files": None,
            "_split": "train",
        }
        Path(folder, "state.json").write_text(json.dumps(state))
        Path(folder, "dataset_info.json").write_text(json.dumps({"features": {}}))
