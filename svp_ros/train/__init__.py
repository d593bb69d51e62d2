"""Offline training scripts."""
