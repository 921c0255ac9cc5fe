"""The kernels in plain array code, for any array library that follows NumPy's interface.

They are the methods of `tinyml_backends.contract`. Of the backend, their first argument, they use
only ``xp`` and ``chunk_bytes``; convolution also uses the methods of `Steps`. Pooling runs on
arrays of planes: axis 0 counts the planes (one for each sample and channel), and the spatial axes
follow. With channels last, axis 0 counts the samples, and one more axis holds the channels. Nothing
here loops over samples, channels or pixels: loops run over the cells of a window, or over chunks of
planes that fit in the cache.
"""
