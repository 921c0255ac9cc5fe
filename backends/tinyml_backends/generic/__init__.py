"""The kernels in plain array code, for any array library that follows NumPy's interface.

Every function takes the array module ``xp`` first and runs on arrays of planes: axis 0 counts the
planes (one for each sample and channel), the other axes are spatial. Nothing here loops over
samples, channels or pixels: loops run over the cells of a window, or over chunks of planes that fit
the cache.
"""
