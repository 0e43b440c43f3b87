"""Weights of a model as arrays, after their digest was found to be the catalogue's. safetensors only: reading runs no code."""

import hashlib
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from config.catalogue import Entry
from inference.errors import ModelRefused
from inference.stored import require_digest, weights_file


def load_tensors(entry: Entry) -> Mapping[str, torch.Tensor]:
    """The tensors of an entry's weights, on the CPU, as they are stored (half precision stays half).

    Raises:
        ModelRefused: the file is missing, its SHA-256 is not the catalogue's, or it is no safetensors file.
    """
    file = weights_file(entry)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelRefused(f"the weights can't be read: {error.strerror}", f"{entry.name}: {file.name}") from error
    require_digest(entry, hashlib.sha256(content).hexdigest())
    try:
        return load(content)
    except SafetensorError as error:
        raise ModelRefused(f"no safetensors file: {error}", f"{entry.name}: {file.name}") from error
