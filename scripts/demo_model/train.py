#!/usr/bin/env python3
"""Train the demo model: a small DeepSeek-V3-shaped language model (multi-head latent attention, mixture of experts).

Every head has the true DeepSeek geometry (latent 512, nope 128, rope 64, value 128), gating is V3's (sigmoid, selection bias kept by the
load-balancing rule instead of an auxiliary loss, weights normalised and scaled by 2.5), positions are YaRN-scaled RoPE on adjacent pairs.
Runs on a CPU; matrix products are bfloat16. Progress goes by --minutes of training time (or by --steps, whichever ends first), so the same
command gives a finished model on a slower machine too. It resumes from DIR/last.pt.

DIR/last.pt is the running state, DIR/best.pt the weights with the lowest held-out loss.
"""
import argparse, json, math, pathlib, time
from dataclasses import asdict, dataclass
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    n_vocab: int = 4096
    n_embd: int = 256
    n_layer: int = 6
    n_dense: int = 1        # leading layers with a plain feed-forward block
    n_head: int = 4
    q_lora: int = 256
    kv_lora: int = 512
    nope: int = 128
    rope: int = 64
    v: int = 128
    ff: int = 768
    n_expert: int = 8
    n_used: int = 2
    ff_exp: int = 256
    w_scale: float = 2.5
    eps: float = 1e-6
    rope_base: float = 10000.0
    yarn_factor: float = 4.0
    yarn_ctx: int = 512
    yarn_log_mul: float = 0.1
    n_ctx: int = 2048


def yarn_angles(c, n):
    """cos and sin, [n, rope/2]. Pairs that turn often within the original context keep their frequency, slow ones are divided by the factor."""
    corr = lambda beta: c.rope * math.log(c.yarn_ctx / (beta * 2 * math.pi)) / (2 * math.log(c.rope_base))
    low, high = max(0, math.floor(corr(32))), min(c.rope - 1, math.ceil(corr(1)))
    i = torch.arange(c.rope // 2, dtype=torch.float64)
    freq = c.rope_base ** (-2 * i / c.rope)
    mix = 1 - ((i - low) / max(0.001, high - low)).clamp(0, 1)  # 1: as it is, 0: interpolated
    freq = freq / c.yarn_factor * (1 - mix) + freq * mix
    a = torch.arange(n, dtype=torch.float64)[:, None] * freq
    return a.cos().float(), a.sin().float()


def attention_scale(c):
    return (1 + c.yarn_log_mul * math.log(c.yarn_factor)) ** 2 / math.sqrt(c.nope + c.rope)


def rotate(x, cos, sin):
    """RoPE of adjacent pairs on the last dimension; cos and sin broadcast to [..., rope/2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, self.eps)


def linear(n_in, n_out, std):
    m = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(m.weight, std=std)
    return m


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, s = c, 0.02 * 2
        self.q_a, self.q_a_norm = linear(c.n_embd, c.q_lora, s), Norm(c.q_lora, c.eps)
        self.q_b = linear(c.q_lora, c.n_head * (c.nope + c.rope), s)
        self.kv_a, self.kv_a_norm = linear(c.n_embd, c.kv_lora + c.rope, s), Norm(c.kv_lora, c.eps)
        self.kv_b = linear(c.kv_lora, c.n_head * (c.nope + c.v), s)
        self.out = linear(c.n_head * c.v, c.n_embd, s / math.sqrt(2 * c.n_layer))

    def forward(self, x, cos, sin):
        c, (B, T, _) = self.c, x.shape
        q = self.q_b(self.q_a_norm(self.q_a(x))).view(B, T, c.n_head, c.nope + c.rope)
        latent, k_rope = self.kv_a(x).split([c.kv_lora, c.rope], -1)
        kv = self.kv_b(self.kv_a_norm(latent)).view(B, T, c.n_head, c.nope + c.v)
        cs, sn = cos[:T, None].to(q.dtype), sin[:T, None].to(q.dtype)
        if q.dtype != torch.float32:  # turn in float32
            cs, sn = cos[:T, None], sin[:T, None]
        q_rope = rotate(q[..., c.nope:].float(), cs, sn).to(q.dtype)
        k_rope = rotate(k_rope.float()[:, :, None], cs, sn).to(q.dtype).expand(B, T, c.n_head, c.rope)
        q = torch.cat((q[..., :c.nope], q_rope), -1).transpose(1, 2)
        k = torch.cat((kv[..., :c.nope], k_rope), -1).transpose(1, 2)
        v = F.pad(kv[..., c.nope:], (0, c.nope + c.rope - c.v)).transpose(1, 2)  # the fused kernel wants equal head sizes
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=attention_scale(c))[..., :c.v]
        return self.out(y.transpose(1, 2).reshape(B, T, c.n_head * c.v))


class GLU(nn.Module):
    def __init__(self, c, n):
        super().__init__()
        s = 0.02 * 2
        self.gate, self.up = linear(c.n_embd, n, s), linear(c.n_embd, n, s)
        self.down = linear(n, c.n_embd, s / math.sqrt(2 * c.n_layer))

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, s, E = c, 0.02 * 2, c.n_expert
        self.router = nn.Parameter(torch.randn(E, c.n_embd) * 0.02)
        self.register_buffer("bias", torch.zeros(E))   # steers the choice only, not the weights
        self.register_buffer("load", torch.zeros(E), persistent=False)
        self.gate = nn.Parameter(torch.randn(E, c.ff_exp, c.n_embd) * s)
        self.up = nn.Parameter(torch.randn(E, c.ff_exp, c.n_embd) * s)
        self.down = nn.Parameter(torch.randn(E, c.n_embd, c.ff_exp) * s / math.sqrt(2 * c.n_layer))
        self.shared = GLU(c, c.ff_exp)

    def forward(self, x):
        c, shape = self.c, x.shape
        x = x.reshape(-1, c.n_embd)
        with torch.autocast("cpu", enabled=False):
            p = torch.sigmoid(F.linear(x.float(), self.router))
            pick = (p.detach() + self.bias).topk(c.n_used, -1).indices
            w = p.gather(1, pick)
            w = w / w.sum(-1, keepdim=True) * c.w_scale
        flat = pick.flatten()
        count = torch.bincount(flat, minlength=c.n_expert)
        if self.training:
            self.load += count
        order = flat.argsort(stable=True)
        rows = order // c.n_used
        xs = x.to(torch.bfloat16) if torch.is_autocast_enabled("cpu") else x
        ys = []
        for r, gate, up, down in zip(rows.split(count.tolist()), self.gate.unbind(0), self.up.unbind(0), self.down.unbind(0)):
            h = xs.index_select(0, r)
            ys.append(F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down))
        y = torch.cat(ys).float() * w.flatten()[order][:, None]
        out = torch.zeros_like(x, dtype=torch.float32).index_add(0, rows, y)
        return (out + self.shared(x)).view(shape)

    @torch.no_grad()
    def balance(self, gamma):
        """DeepSeek-V3's rule: an expert with more than the mean load gets a lower bias, one with less a higher."""
        load, self.load = self.load, torch.zeros_like(self.load)
        self.bias += gamma * torch.sign(load.mean() - load)
        return load / load.sum()


class Layer(nn.Module):
    def __init__(self, c, i, drop):
        super().__init__()
        self.attn_norm, self.attn = Norm(c.n_embd, c.eps), Attention(c)
        self.ffn_norm, self.ffn = Norm(c.n_embd, c.eps), GLU(c, c.ff) if i < c.n_dense else MoE(c)
        self.drop = nn.Dropout(drop)

    def forward(self, x, cos, sin):
        x = x + self.drop(self.attn(self.attn_norm(x), cos, sin).float())
        return x + self.drop(self.ffn(self.ffn_norm(x)).float())


class Model(nn.Module):
    def __init__(self, c, drop=0.0):
        super().__init__()
        self.c = c
        self.embd = nn.Embedding(c.n_vocab, c.n_embd)
        nn.init.normal_(self.embd.weight, std=0.5)
        self.layers = nn.ModuleList(Layer(c, i, drop) for i in range(c.n_layer))
        self.norm, self.output = Norm(c.n_embd, c.eps), linear(c.n_embd, c.n_vocab, 0.02)
        self.drop = nn.Dropout(drop)
        cos, sin = yarn_angles(c, c.n_ctx)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids):
        x = self.drop(self.embd(ids))
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.output(self.norm(x))


class Text:
    """Endless windows of training text. Each pass shuffles the chapters. One chapter in five follows the last with a blank line only, the
    others with the end and begin tokens; some windows that begin inside a chapter get the begin token in front."""
    def __init__(self, data, seed):
        ids, lens = np.load(data / "train.npy"), np.load(data / "train_len.npy")
        self.docs, self.rng = np.split(ids, np.cumsum(lens)[:-1]), np.random.default_rng(seed)
        v = json.loads((data / "tokenizer.json").read_text())
        vocab = v["model"]["vocab"]
        self.bos, self.eos = (next(t["id"] for t in v["added_tokens"] if t["content"].startswith(k)) for k in ("<｜begin", "<｜end"))
        self.newline, self.buf, self.tokens = vocab["Ċ"], np.zeros(0, np.int32), 0

    def more(self):
        parts = []
        for i in self.rng.permutation(len(self.docs)):
            parts += [[self.newline] * 2 if self.rng.random() < 0.2 else [self.eos, self.bos], self.docs[i]]
        self.buf = np.concatenate([self.buf, *parts])

    def batch(self, n, length):
        while len(self.buf) < n * length + 1:
            self.more()
        b, self.buf = self.buf[:n * length + 1], self.buf[n * length:]
        self.tokens += n * length
        x, y = b[:-1].reshape(n, length).copy(), b[1:].reshape(n, length)
        x[self.rng.random(n) < 0.3, 0] = self.bos
        return torch.from_numpy(x.astype(np.int64)), torch.from_numpy(y.astype(np.int64))


def heldout_chunks(data, bos, length=512):
    """The held-out text as one stream, cut in chunks that each begin with the begin token (what llama-perplexity does)."""
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(data / "tokenizer.json"))
    ids = [bos] + tok.encode((data / "heldout.txt").read_text(), add_special_tokens=False).ids
    n = len(ids) // length
    x = torch.tensor(ids[:n * length]).view(n, length)
    y = torch.roll(x.flatten(), -1).view(n, length).clone()
    x = x.clone()
    x[:, 0] = bos
    return x, y


@torch.no_grad()
def evaluate(model, chunks, dtype=torch.bfloat16):
    """Mean loss over all positions, and over the second half of each chunk (the part llama-perplexity scores)."""
    model.eval()
    x, y = chunks
    T, all_, half = x.shape[1], [], []
    for i in range(0, len(x), 8):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(x[i:i + 8]).float()
        loss = F.cross_entropy(logits.flatten(0, 1), y[i:i + 8].flatten(), reduction="none").view(-1, T)
        all_.append(loss[:, :T - 1])
        half.append(loss[:, T // 2:T - 1])
    model.train()
    return torch.cat(all_).mean().item(), torch.cat(half).mean().item()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=pathlib.Path, required=True, help="what prepare_text.py wrote")
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--minutes", type=float, default=60)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=4096, help="tokens a step")
    ap.add_argument("--seq", type=int, default=512)
    ap.add_argument("--long-seq", type=int, default=2048, help="sequence length of the last part")
    ap.add_argument("--long-from", type=float, default=0.85, help="where that part begins, as a fraction of the run")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--decay", type=float, default=0.1)
    ap.add_argument("--drop", type=float, default=0.1)
    ap.add_argument("--gamma", type=float, default=2e-3, help="step of the selection bias")
    ap.add_argument("--eval-every", type=int, default=250)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    o = ap.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    o.out.mkdir(parents=True, exist_ok=True)
    c = Config()
    model, text = Model(c, o.drop), Text(o.data, o.seed)
    held = heldout_chunks(o.data, text.bos)
    matrices = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embd" not in n and "router" not in n]
    ids = {id(p) for p in matrices}
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": o.decay},
                             {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": 0.0}],
                            lr=o.lr, betas=(0.9, 0.95), eps=1e-8, fused=True)
    step, spent, best = 0, 0.0, 1e9
    if (o.out / "last.pt").exists():
        s = torch.load(o.out / "last.pt", weights_only=False)
        model.load_state_dict(s["model"]); opt.load_state_dict(s["opt"])
        step, spent, best, text.rng, text.buf, text.tokens = s["step"], s["spent"], s["best"], s["rng"], s["buf"], s["tokens"]
        torch.set_rng_state(s["torch_rng"])
        print(f"resumed at step {step}", flush=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    start, mean, done = time.monotonic() - spent, [], False
    moes = [l.ffn for l in model.layers if isinstance(l.ffn, MoE)]
    while not done:
        spent = time.monotonic() - start
        f = min(1.0, max(step / o.steps, spent / 60 / o.minutes))
        done = f >= 1.0
        lr = o.lr * min(1.0, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * f)))
        for g in opt.param_groups:
            g["lr"] = lr
        length = o.long_seq if f >= o.long_from else o.seq
        x, y = text.batch(max(1, o.batch // length), length)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        loads = [m.balance(o.gamma * (1 - f)) for m in moes]
        mean.append(loss.item())
        step += 1
        if step % 25 == 0:
            rate = text.tokens / (time.monotonic() - start)
            print(f"step {step} f {f:.3f} epoch {text.tokens / 976000:.2f} loss {np.mean(mean):.4f} lr {lr:.2e} {rate:.0f} tokens/s "
                  f"load {min(l.min().item() for l in loads):.3f}..{max(l.max().item() for l in loads):.3f}", flush=True)
            mean = []
        if step % o.eval_every == 0 or done:
            full, half = evaluate(model, held)
            print(f"heldout step {step} all {full:.4f} half {half:.4f} perplexity {math.exp(half):.3f}", flush=True)
            weights = {"model": model.state_dict(), "config": asdict(c), "step": step, "tokens": text.tokens, "all": full, "half": half}
            if half < best:
                best = half
                torch.save(weights, o.out / "tmp.pt"); (o.out / "tmp.pt").replace(o.out / "best.pt")
            torch.save({**weights, "opt": opt.state_dict(), "spent": time.monotonic() - start, "best": best, "rng": text.rng, "buf": text.buf,
                        "torch_rng": torch.get_rng_state()}, o.out / "tmp.pt")
            (o.out / "tmp.pt").replace(o.out / "last.pt")


if __name__ == "__main__":
    main()
