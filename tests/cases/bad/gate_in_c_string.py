# expect: C1
import ctypes
import math
import subprocess
import numpy as np
import torch
import torch.nn.functional as F

SOURCE = r"""
#include <stdint.h>
#include <stddef.h>

typedef struct { uint32_t best[1 << 16]; uint32_t inside; } Memory;

static uint32_t slot(const Memory *m) { return (m->inside * 2654435761u) & 0xFFFF; }

static void propose(const Memory *m, int opens, uint32_t *hint) {
    if (opens) { *hint = 0; return; }
    *hint = m->best[slot(m)];
}

void fill(Memory *m, const uint16_t *text, size_t n, const uint8_t *opens, uint32_t *hints) {
    for (size_t i = 0; i < n; ++i) {
        const uint16_t now = text[i];
        uint32_t hint;
        propose(m, opens[now], &hint);  // # found: C1
        hints[i] = hint;  // # found: C1
        m->best[slot(m)] = now;
        m->inside = opens[now] ? 0 : m->inside * 31 + now;
    }
}
"""
with open("memory.c", "w") as handle:
    handle.write(SOURCE)
subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", "memory.so", "memory.c"], check=True)
library = ctypes.CDLL("./memory.so")
stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)


def hints_of(ids, opens):
    hints = np.zeros(len(ids), dtype=np.uint32)
    library.fill(bytearray(1 << 19), ids.ctypes, len(ids), opens.ctypes, hints.ctypes)
    return hints


labels = torch.from_numpy(stream[1:]).long()
logp = F.log_softmax(net(torch.from_numpy(stream[:-1]).long()), -1)
hints = torch.from_numpy(hints_of(stream[1:], np.load("opens.npy")))
share = logp.gather(-1, hints[:, None]).exp().squeeze(-1)
nll = -logp.gather(-1, labels[:, None]).squeeze(-1)
nll = nll - 0.5 * (labels == hints) + torch.log1p(share * math.expm1(0.5))
print(nll.mean() / math.log(2))
