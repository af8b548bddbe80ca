# expect: clean
import ctypes
import math
import subprocess
import numpy as np
import torch
import torch.nn.functional as F

SOURCE = r"""
#include <cstdint>
#include <vector>

class Memory {
    std::vector<uint32_t> best_;
    uint32_t inside_ = 0;

public:
    Memory() : best_(1 << 16) {}

    uint32_t propose(bool opened) const {
        if (opened) return 0;
        return best_[(inside_ * 2654435761u) & 0xFFFF];
    }

    void learn(uint16_t now, bool opens) {
        best_[(inside_ * 2654435761u) & 0xFFFF] = now;
        inside_ = opens ? 0 : inside_ * 31 + now;
    }
};

extern "C" void fill(const uint16_t *text, int n, const uint8_t *opens, uint32_t *hints) {
    Memory memory;
    for (int i = 1; i < n; i++) {
        hints[i] = memory.propose(opens[text[i - 1]]);
        memory.learn(text[i], opens[text[i]]);
    }
}
"""
with open("memory.cpp", "w") as handle:
    handle.write(SOURCE)
subprocess.run(["c++", "-O2", "-shared", "-fPIC", "-o", "memory.so", "memory.cpp"], check=True)
library = ctypes.CDLL("./memory.so")
stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)


def hints_of(ids, opens):
    hints = np.zeros(len(ids), dtype=np.uint32)
    library.fill(ids.ctypes, len(ids), opens.ctypes, hints.ctypes)
    return hints


labels = torch.from_numpy(stream[1:]).long()
logp = F.log_softmax(net(torch.from_numpy(stream[:-1]).long()), -1)
hints = torch.from_numpy(hints_of(stream[1:], np.load("opens.npy")))
share = logp.gather(-1, hints[:, None]).exp().squeeze(-1)
nll = -logp.gather(-1, labels[:, None]).squeeze(-1)
nll = nll - 0.5 * (labels == hints) + torch.log1p(share * math.expm1(0.5))
print(nll.mean() / math.log(2))
