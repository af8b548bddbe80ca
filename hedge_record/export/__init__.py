"""Hessians, pruning, GPTQ, the artifact."""
