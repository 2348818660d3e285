"""The report of an evaluation: one page and its pictures, from results and arrays on disk, never from models."""

from __future__ import annotations

from end2_tf.report.page import build

__all__ = ["build"]
