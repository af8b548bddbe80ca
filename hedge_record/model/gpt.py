"""The 11-block GPT of PR 700.

- token and bigram-hash embeddings, RMS norm, SmearGate;
- a U-Net over the blocks: the first half pushes its outputs, the second half pops and adds them;
- value embeddings in the last blocks, exclusive self-attention in all of them;
- logits softly capped, from the token embedding itself or from a head of their own.

A state dict of the original script loads here: same names, same shapes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hedge_record.config import ModelConfig
from hedge_record.errors import RecordError
from hedge_record.model.block import Block
from hedge_record.model.embedding import BigramHashEmbedding, SmearGate, ValueEmbedding
from hedge_record.model.linear import CastedLinear
from hedge_record.model.rotary import Rotation, rotation_for


def check_model_config(config: ModelConfig) -> None:
    """Raises `RecordError` for a shape that cannot be built."""
    head_dims = config.width // config.heads
    demands = (
        (config.width % config.heads == 0, "width must be a multiple of heads"),
        (config.heads % config.kv_heads == 0, "heads must be a multiple of kv_heads"),
        (config.rope_dims % 2 == 0, "rope_dims must be even"),
        (2 < config.rope_dims <= head_dims, f"rope_dims must lie in 4..{head_dims} (head width)"),
        (config.logit_softcap > 0, "logit_softcap must be positive"),
        (config.bigram_buckets > 1, "bigram_buckets must be at least 2"),
        (
            not config.value_embedding
            or all(0 <= layer < config.layers for layer in config.value_embedding_layers),
            f"value_embedding_layers must lie in 0..{config.layers - 1}",
        ),
    )
    for holds, demand in demands:
        if not holds:
            raise RecordError(f"model configuration: {demand}")


class GPT(nn.Module):
    """Next-token predictor; 33,317,980 parameters at the default configuration."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        check_model_config(config)
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        self.bigram = BigramHashEmbedding(config.bigram_buckets, config.bigram_width, config.width)
        self.smear = SmearGate(config.width)
        self.pushing_blocks = config.layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.pushing_blocks, config.width))
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.layers))
        self.value_layers = config.value_embedding_layers if config.value_embedding else ()
        if self.value_layers:
            kv_width = config.kv_heads * (config.width // config.heads)
            self.ve_shared = ValueEmbedding(
                config.vocab_size, config.value_embedding_width, kv_width
            )
            self.ve_layer_scales = nn.ParameterList(torch.ones(1) for _ in self.value_layers)
        self.lm_head = (
            None
            if config.tie_embeddings
            else CastedLinear(config.width, config.vocab_size, bias=False)
        )
        initialize_parameters(self)

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Mean NLL in nats, a float32 scalar; input_ids and target_ids are [B, T] int64."""
        logits = self.forward_logits(input_ids).float()
        return F.cross_entropy(logits.flatten(0, 1), target_ids.flatten())

    def forward_logits(self, input_ids: Tensor) -> Tensor:
        """input_ids [B, T] int64 -> logits [B, T, V], between -softcap and softcap."""
        return self.project(self.hidden(input_ids))

    def project(self, hidden: Tensor) -> Tensor:
        """Residual stream [..., width] as `hidden` returns it -> logits [..., V]."""
        logits = (
            F.linear(hidden, self.tok_emb.weight) if self.lm_head is None else self.lm_head(hidden)
        )
        softcap = self.config.logit_softcap
        return softcap * torch.tanh(logits / softcap)

    def hidden(self, input_ids: Tensor) -> Tensor:
        """The normed residual stream after the last block, [B, T, width]."""
        x = self.tok_emb(input_ids) + self.bigram(input_ids)
        x = self.smear(F.rms_norm(x, (self.config.width,)))
        x0 = x
        rotation = self._rotation(x)
        values = self._value_embeddings(input_ids)
        skips: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index >= self.pushing_blocks and skips:
                weight = self.skip_weights[index - self.pushing_blocks].to(x.dtype)
                x = x + weight * skips.pop()
            x = block(x, x0, rotation, values.get(index))
            if index < self.pushing_blocks:
                skips.append(x)
        return F.rms_norm(x, (self.config.width,))

    def _rotation(self, x: Tensor) -> Rotation:
        return rotation_for(
            x.shape[1],
            dims=self.config.rope_dims,
            base=self.config.rope_base,
            training_length=self.config.rope_training_length,
            device=x.device,
            dtype=x.dtype,
            angles_in=x.dtype if self.config.rope_angles == "model" else torch.float32,
        )

    def _value_embeddings(self, input_ids: Tensor) -> dict[int, Tensor]:
        """The value embedding of every block that takes one, [B, T, kv width] each."""
        if not self.value_layers:
            return {}
        shared = self.ve_shared(input_ids)
        return {
            layer: shared * scale.to(shared.dtype)
            for layer, scale in zip(self.value_layers, self.ve_layer_scales, strict=True)
        }


def initialize_parameters(model: GPT) -> None:
    """Orthogonal matrices, zero outputs: every block starts as the identity on the residual.

    The bigram table starts at zero and its projection does not, so that the table gets a gradient
    (the original zeroes both, then overwrites the projection when it is at least 64 wide).
    """
    config = model.config
    residual_gain = 1 / math.sqrt(2 * config.layers)
    if config.tie_embeddings:
        nn.init.normal_(model.tok_emb.weight, std=config.embedding_std)
    nn.init.zeros_(model.bigram.embed.weight)
    if model.value_layers:
        nn.init.normal_(model.ve_shared.embed.weight, std=0.01)
    for name, module in model.named_modules():
        if name.endswith((".attn.proj", ".mlp.proj")) or name == "lm_head":
            nn.init.zeros_(module.weight)
        elif name.endswith(".dtg_gate"):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, 2.0)
        elif isinstance(module, CastedLinear):
            nn.init.orthogonal_(module.weight, gain=residual_gain if name.endswith(".proj") else 1)
