"""Training of the shipped networks: data sets, networks, training, evaluation, ONNX export.

The only package that imports torch; it needs the extra ``rales[train]``. Run it with
``python -m training --help``.
"""
