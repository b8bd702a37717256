"""How the bulk tests go through the dtypes, and how many examples each of them tries, the same ones always."""

from __future__ import annotations

import torch
from hypothesis import settings

__all__ = ["DTYPES", "WIDE", "bulk"]

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
WIDE = ("float32", "float64")
bulk = settings(max_examples=25, deadline=None, derandomize=True, database=None)
