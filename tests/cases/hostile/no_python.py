# expect: unknown
| NVIDIA-SMI 550.54 | not a program |
