"""Short names of array types."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]
