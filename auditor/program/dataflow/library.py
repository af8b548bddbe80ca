"""Semantics of library calls that matter: Python, NumPy and PyTorch, by dotted name or method name.

Everything else is treated alike: the result was computed from all arguments.
"""

# Functions and methods that return a view or a copy of the same tokens, in the same order.
SAME = frozenset(
    [
        "to",
        "long",
        "int",
        "float",
        "double",
        "half",
        "bfloat16",
        "cpu",
        "cuda",
        "numpy",
        "astype",
        "clone",
        "detach",
        "contiguous",
        "reshape",
        "view",
        "flatten",
        "ravel",
        "squeeze",
        "unsqueeze",
        "copy",
        "type",
        "tolist",
        "pin_memory",
        "requires_grad_",
        "data",
        "from_numpy",
        "as_tensor",
        "tensor",
        "asarray",
        "array",
        "ascontiguousarray",
        "expand",
        "expand_as",
        "view_as",
        "list",
        "tuple",
        "non_blocking",
        "item",
        "int64",
        "int32",
        "uint64",
        "uint32",
        "uint16",
        "int16",
        "float32",
        "float64",
        "LongTensor",
        "IntTensor",
        "iter",
        "expand_dims",
        "atleast_1d",
        "memoryview",
        "share_memory_",
        "frombuffer",
        "byteswap",
        "newbyteorder",
        "swapaxes",
        "transpose",
        "permute",
        "repeat",
        "repeat_interleave",
        "tile",
        "deepcopy",
        "Tensor",
    ]
)
# Sums, products, exponentials and logarithms: what keeps a blend a blend.
LINEAR = SAME | frozenset(
    [
        "sum",
        "mean",
        "logsumexp",
        "log",
        "exp",
        "log2",
        "log1p",
        "expm1",
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "negative",
        "multiply",
        "divide",
        "subtract",
        "true_divide",
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
        "clamp_",
        "where",
        "masked_fill",
        "nan_to_num",
        "stack",
        "cat",
        "concatenate",
        "hstack",
        "vstack",
        "column_stack",
        "einsum",
        "matmul",
        "dot",
        "bmm",
        "mm",
        "mv",
        "inner",
        "tensordot",
        "logaddexp",
        "logaddexp2",
        "add_",
        "sub_",
        "mul_",
        "div_",
        "copy_",
        "all_reduce",
        "masked_select",
        "index_select",
        "reduce",
        "average",
        "nansum",
        "logsumexp_",
        "abs",
        "float",
        "sum_to_size",
        "item",
        "log_",
        "exp_",
        "neg_",
        "append",
        "extend",
        "cumsum",
        "nanmean",
        "fsum",
        "double",
        "lerp",
        "lerp_",
    ]
)
# What sums up along an axis.
REDUCING = frozenset(
    [
        "sum",
        "mean",
        "logsumexp",
        "einsum",
        "matmul",
        "dot",
        "bmm",
        "mm",
        "mv",
        "inner",
        "tensordot",
        "average",
        "nansum",
        "nanmean",
        "fsum",
    ]
)
# Side by side along a new axis, to be weighed.
STACK = frozenset(
    [
        "stack",
        "column_stack",
        "dstack",
        "hstack",
        "vstack",
        "cat",
        "concatenate",
        "concat",
        "array",
        "logaddexp",
    ]
)
# The smallest or the largest of what is given.
EXTREMUM = frozenset(
    ["min", "max", "minimum", "maximum", "fmin", "fmax", "amin", "amax", "nanmin", "nanmax"]
)
# Shapes and sizes forget the contents.
SHAPE = frozenset(
    [
        "shape",
        "size",
        "numel",
        "ndim",
        "dim",
        "dtype",
        "device",
        "itemsize",
        "nbytes",
        "stride",
        "storage_offset",
        "element_size",
        "is_cuda",
        "__len__",
        "get_rank",
        "get_world_size",
    ]
)
# New arrays.
ARRAY = frozenset(
    [
        "zeros",
        "ones",
        "empty",
        "full",
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
        "eye",
        "bytearray",
        "ndarray",
        "identity",
    ]
)
# Losses of realised tokens: (position, name) of the distribution and of the labels.
LOSS = frozenset(["cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"])
# In-place additions at computed places.
SCATTER = frozenset(
    [
        "scatter_add_",
        "index_add_",
        "index_put_",
        "scatter_",
        "scatter_reduce_",
        "put_",
        "index_copy_",
        "index_fill_",
    ]
)
# What every rank holds is put into the first argument.
GATHERING = frozenset(["all_gather", "all_gather_object", "all_gather_into_tensor"])
# `==` and `!=` in their spellings as functions.
EQUALITY = frozenset(["eq", "ne", "equal", "not_equal", "isclose", "array_equal"])
# What may leave out some places of a loss.
MASKING = frozenset(["where", "masked_select", "masked_fill", "masked_fill_"])
# Lookups at computed places.
LOOKUP = frozenset(
    ["gather", "index_select", "take", "take_along_dim", "take_along_axis", "embedding", "get"]
)
# One number in which several are hashed.
HASHES = frozenset(
    [
        "hash",
        "crc32",
        "adler32",
        "md5",
        "sha1",
        "sha256",
        "blake2b",
        "blake2s",
        "bitwise_xor",
        "bitwise_and",
        "remainder",
        "fmod",
        "mod",
        "bitwise_or",
        "left_shift",
        "right_shift",
        "bitwise_left_shift",
        "bitwise_right_shift",
        "logical_xor",
        "xxh64",
        "xxh32",
        "mul",
        "multiply",
        "tobytes",
        "pack",
        "join",
        "format",
        "siphash",
        "digest",
        "hexdigest",
        "intdigest",
        "from_bytes",
        "bitwise_xor_",
        "bitwise_and_",
        "remainder_",
        "mul_",
        "__xor__",
        "__and__",
    ]
)
WRITES = frozenset(
    ["save", "dump", "write", "write_bytes", "write_text", "savez", "save_file", "tofile"]
)
READS = frozenset(
    [
        "open",
        "load",
        "loads",
        "fromfile",
        "memmap",
        "read",
        "read_bytes",
        "read_text",
        "load_file",
        "frombuffer",
        "genfromtxt",
        "loadtxt",
    ]
)
