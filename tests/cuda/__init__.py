"""The GPU oracle: one command that checks torch on CUDA where there is one (``python -m tests.cuda``)."""
