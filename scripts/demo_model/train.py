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
import torch.multiprocessing as mp
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


class RmsNorm(torch.autograd.Function):
    """RMS norm with its gradient written out, from float32 to the type the next product takes; fewer passes than the library's version."""
    @staticmethod
    def forward(ctx, x, weight, eps, dtype):
        r = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, r, weight)
        return (x * r).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, g):
        x, r, weight = ctx.saved_tensors
        y = x * r
        gy = g * y
        dw = gy.flatten(0, -2).sum(0)
        return (g * weight).sub_(y.mul_(gy.mul_(weight).mean(-1, keepdim=True))).mul_(r), dw, None, None


class OutputLoss(torch.autograd.Function):
    """Mean cross-entropy of the output layer, in pieces that stay in cache; the gradient is made along with the loss."""
    @staticmethod
    def forward(ctx, x, weight, target, piece=256):
        w, dx, dw, total = weight.bfloat16(), torch.empty(x.shape, dtype=torch.bfloat16), torch.zeros_like(weight), 0.0
        one = torch.ones(piece, 1, dtype=torch.bfloat16)
        for i in range(0, len(x), piece):
            h, t = x[i:i + piece].bfloat16(), target[i:i + piece, None]
            p = torch.softmax(h @ w.t(), -1)
            total -= p.gather(1, t).float().clamp_min(1e-20).log().sum()
            p.scatter_add_(1, t, -one[:len(t)])
            dx[i:i + piece] = p @ w
            dw += p.t() @ h
        ctx.save_for_backward(dx, dw)
        ctx.n = len(x)
        return total / len(x)

    @staticmethod
    def backward(ctx, g):
        dx, dw = ctx.saved_tensors
        return dx * (g / ctx.n), dw * (g / ctx.n), None, None


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return RmsNorm.apply(x.float(), self.weight, self.eps, torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)


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
        cs, sn = cos[:T, None], sin[:T, None]  # turned in float32
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
        ys = []
        for r, gate, up, down in zip(rows.split(count.tolist()), self.gate.unbind(0), self.up.unbind(0), self.down.unbind(0)):
            h = x.index_select(0, r)
            ys.append(F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down))
        y = torch.cat(ys).float() * w.flatten()[order][:, None]
        out = torch.zeros_like(x, dtype=torch.float32).index_add(0, rows, y)
        return (out + self.shared(x)).view(shape)

    @torch.no_grad()
    def balance(self, load, gamma):
        """DeepSeek-V3's rule: an expert with more than the mean load gets a lower bias, one with less a higher."""
        self.bias += gamma * torch.sign(load.mean() - load)


class Dropout(nn.Module):
    """Dropout with one random byte a value: several times faster on a CPU than the library's. The rate is cut / 256."""
    def __init__(self, rate):
        super().__init__()
        self.cut = round(rate * 256)

    def forward(self, x):
        if not self.training or self.cut == 0:
            return x
        keep = torch.empty(x.numel() // 8, dtype=torch.int64).random_(-2 ** 63, None).view(torch.uint8).view(x.shape) >= self.cut
        return x * (keep * (256 / (256 - self.cut)))


class Layer(nn.Module):
    def __init__(self, c, i, drop):
        super().__init__()
        self.attn_norm, self.attn = Norm(c.n_embd, c.eps), Attention(c)
        self.ffn_norm, self.ffn = Norm(c.n_embd, c.eps), GLU(c, c.ff) if i < c.n_dense else MoE(c)
        self.drop = Dropout(drop)

    def forward(self, x, cos, sin):
        x = x + self.drop(self.attn(self.attn_norm(x), cos, sin))
        return x + self.drop(self.ffn(self.ffn_norm(x)))


class Model(nn.Module):
    def __init__(self, c, drop=0.0):
        super().__init__()
        self.c = c
        self.embd = nn.Embedding(c.n_vocab, c.n_embd)
        nn.init.normal_(self.embd.weight, std=0.5)
        self.layers = nn.ModuleList(Layer(c, i, drop) for i in range(c.n_layer))
        self.norm, self.output = Norm(c.n_embd, c.eps), linear(c.n_embd, c.n_vocab, 0.02)
        self.drop = Dropout(drop)
        cos, sin = yarn_angles(c, c.n_ctx)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids, target=None):
        """Logits, or the mean loss where targets are given."""
        x = self.drop(self.embd(ids))
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        x = self.norm(x)
        return self.output(x) if target is None else OutputLoss.apply(x.flatten(0, 1), self.output.weight, target.flatten())


@torch.no_grad()
def muon(p, grad, buf, lr, decay, momentum=0.95):
    """Momentum whose update is made orthogonal (five Newton-Schulz steps), for a weight matrix or a stack of them. Jordan et al., 2024."""
    buf.lerp_(grad, 1 - momentum)
    x = grad.lerp(buf, momentum).bfloat16().view(-1, *p.shape[-2:])
    flip = x.shape[-2] > x.shape[-1]
    x = x.mT if flip else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    x = (x.mT if flip else x).reshape(p.shape)
    p.mul_(1 - lr * decay)
    p.add_(x, alpha=-lr * max(1, p.shape[-2] / p.shape[-1]) ** 0.5)


class Text:
    """Endless windows of training text. Each pass shuffles the chapters. One chapter in five follows the last with a blank line only, the
    others with the end and begin tokens; some windows that begin inside a chapter get the begin token in front."""
    def __init__(self, data, seed):
        ids, lens = np.load(data / "train.npy"), np.load(data / "train_len.npy")
        self.docs, self.rng = np.split(ids, np.cumsum(lens)[:-1]), np.random.default_rng(seed)
        v = json.loads((data / "tokenizer.json").read_text())
        vocab = v["model"]["vocab"]
        self.bos, self.eos = (next(t["id"] for t in v["added_tokens"] if t["content"].startswith(k)) for k in ("<｜begin", "<｜end"))
        self.newline, self.buf, self.tokens, self.size = vocab["Ċ"], np.zeros(0, np.int32), 0, len(ids) + 2 * len(lens)

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


class Team:
    """What the worker processes share: weights, gradients, momenta and expert loads, all in shared memory, and a barrier."""
    def __init__(self, model, n):
        self.model, self.n, self.barrier = model.share_memory(), n, mp.get_context("fork").Barrier(n)
        self.named = list(model.named_parameters())
        self.grads = [[torch.zeros_like(p).share_memory_() for _, p in self.named] for _ in range(n)]
        self.momentum = [torch.zeros_like(p).share_memory_() for _, p in self.named]
        self.moes = [l.ffn for l in model.layers if isinstance(l.ffn, MoE)]
        self.loads = torch.zeros(n, len(self.moes), model.c.n_expert).share_memory_()
        self.losses = torch.zeros(n).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()

    def is_matrix(self, i):
        name, p = self.named[i]
        return name.startswith("layers") and p.ndim >= 2 and "router" not in name

    def grad(self, i):
        """The sum of the workers' gradients. Neither optimiser cares about its scale."""
        return sum((g[i] for g in self.grads[1:]), self.grads[0][i])


def work(rank, o, team, text, held, adam, s):
    """One worker: it computes the gradient of its part of each batch in one thread and then updates its part of the weights."""
    torch.set_num_threads(1)
    model, step, best = team.model, s["step"], s["best"]
    torch.manual_seed(o.seed + 1000 * rank + step)
    start, mean, f = time.monotonic() - s["spent"], [], 0.0
    first = text.tokens, time.monotonic()
    for m in team.moes:
        m.load = torch.zeros(model.c.n_expert)  # of this worker
    drops = [m for m in model.modules() if isinstance(m, Dropout)]
    matrices = sorted((i for i in range(len(team.named)) if team.is_matrix(i)), key=lambda i: -team.named[i][1].numel())
    while f < 1.0:
        if rank == 0:
            team.progress[0] = min(1.0, max(step / o.steps, (time.monotonic() - start) / 60 / o.minutes))
        team.barrier.wait()
        f = team.progress.item()
        rate = min(1.0, (step + 1) / 100, max(0.01, (1 - f) / (1 - o.fall_from)))  # of learning: warm-up, constant, a straight fall at the end
        length = o.long_seq if f >= o.long_from else o.mid_seq if f >= o.mid_from else o.seq
        for d in drops:
            d.cut = round(o.drop * 256) if f >= o.drop_from else 0
        rows = max(1, o.batch // length // team.n)
        x, y = (v[rank * rows:(rank + 1) * rows] for v in text.batch(rows * team.n, length))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x, y)
        loss.backward()
        team.losses[rank] = loss.item()
        for (_, p), g in zip(team.named, team.grads[rank]):
            g.copy_(p.grad)
            p.grad = None
        for i, m in enumerate(team.moes):
            team.loads[rank, i] = m.load
            m.load.zero_()
        team.barrier.wait()
        for i in matrices[rank::team.n]:
            muon(team.named[i][1].data, team.grad(i), team.momentum[i], o.lr * rate, o.decay)
        step += 1
        if rank == 0:
            for i, (_, p) in enumerate(team.named):
                if not team.is_matrix(i):
                    p.grad = team.grad(i)
            adam.param_groups[0]["lr"] = o.lr_other * rate
            adam.step()
            adam.zero_grad(set_to_none=True)
            loads = team.loads.sum(0) / team.loads.sum((0, 2))[:, None]
            for m, l in zip(team.moes, loads):
                m.balance(l, o.gamma * rate)
            mean.append(team.losses.mean().item())
            if step % 25 == 0:
                speed = (text.tokens - first[0]) / (time.monotonic() - first[1])
                print(f"step {step} f {f:.3f} epoch {text.tokens / text.size:.2f} loss {np.mean(mean):.4f} rate {rate:.3f} {speed:.0f} tokens/s "
                      f"load {loads.min():.3f}..{loads.max():.3f}", flush=True)
                mean, first = [], (text.tokens, time.monotonic())
            if step % o.eval_every == 0 or f >= 1.0:
                full, half = evaluate(model, held)
                print(f"heldout step {step} all {full:.4f} half {half:.4f} perplexity {math.exp(half):.3f}", flush=True)
                weights = {"model": model.state_dict(), "config": asdict(model.c), "step": step, "tokens": text.tokens, "all": full, "half": half}
                if half < best:
                    best = half
                    torch.save(weights, o.out / "tmp.pt")
                    (o.out / "tmp.pt").replace(o.out / "best.pt")
                torch.save({**weights, "adam": adam.state_dict(), "momentum": team.momentum, "spent": time.monotonic() - start, "best": best,
                            "rng": text.rng, "buf": text.buf}, o.out / "tmp.pt")
                (o.out / "tmp.pt").replace(o.out / "last.pt")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=pathlib.Path, required=True, help="what prepare_text.py wrote")
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--minutes", type=float, default=60)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=3072, help="tokens a step")
    ap.add_argument("--seq", type=int, default=256, help="sequence length of the first part")
    ap.add_argument("--mid-seq", type=int, default=512, help="sequence length of the second part")
    ap.add_argument("--mid-from", type=float, default=0.6, help="where that part begins, as a fraction of the run")
    ap.add_argument("--long-seq", type=int, default=2048, help="sequence length of the last part")
    ap.add_argument("--long-from", type=float, default=0.9)
    ap.add_argument("--lr", type=float, default=0.02, help="of the matrices (Muon)")
    ap.add_argument("--lr-other", type=float, default=3e-3, help="of embedding, output, router and norms (AdamW)")
    ap.add_argument("--fall-from", type=float, default=0.4, help="where the learning rates begin to fall, as a fraction of the run")
    ap.add_argument("--decay", type=float, default=0.05, help="weight decay of the matrices")
    ap.add_argument("--drop", type=float, default=0.1, help="dropout of the embedding and of each block's output")
    ap.add_argument("--drop-from", type=float, default=0.59, help="where dropout begins: the first passes over the text do not need it")
    ap.add_argument("--gamma", type=float, default=4e-3, help="step of the selection bias")
    ap.add_argument("--eval-every", type=int, default=200)
    ap.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    ap.add_argument("--seed", type=int, default=1)
    o = ap.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    o.out.mkdir(parents=True, exist_ok=True)
    model, text = Model(Config()), Text(o.data, o.seed)
    held = heldout_chunks(o.data, text.bos)
    team = Team(model, o.workers)
    adam = torch.optim.AdamW([p for i, (_, p) in enumerate(team.named) if not team.is_matrix(i)], lr=o.lr_other, betas=(0.9, 0.95),
                             weight_decay=0.0, fused=True)
    s = {"step": 0, "spent": 0.0, "best": 1e9}
    if (o.out / "last.pt").exists():
        s = torch.load(o.out / "last.pt", weights_only=False)
        model.load_state_dict(s["model"])
        adam.load_state_dict(s["adam"])
        for mine, saved in zip(team.momentum, s["momentum"]):
            mine.copy_(saved)
        text.rng, text.buf, text.tokens = s["rng"], s["buf"], s["tokens"]
        print(f"resumed at step {s['step']}", flush=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    crew = [mp.get_context("fork").Process(target=work, args=(r, o, team, text, held, adam, s), daemon=True) for r in range(1, o.workers)]
    for p in crew:
        p.start()
    work(0, o, team, text, held, adam, s)
    for p in crew:
        p.join()


if __name__ == "__main__":
    main()
