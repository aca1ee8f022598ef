#!/usr/bin/env python3
"""Quantise a checkpoint of train.py and write it as a GGUF file of the `deepseek2` architecture.

Routed gate and up are Q4_K, routed down and the output Q6_K, all other matrices Q8_0, norms, router and selection bias F32.
The two k-quants are made here, by a search for the scales with the least squared error; Q8_0 comes from the `gguf` package.
--check decodes the file again and prints the held-out loss of the decoded weights.
"""
import argparse, json, pathlib
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from train import Config, Model, evaluate, heldout_chunks

CONTROL, NORMAL = 3, 1


def f16(x):
    return x.astype(np.float16).astype(np.float32)


def safe_div(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def sub_q4(x):
    """x [n, 32] -> scale, offset (>= 0) with x ~ scale * q - offset, q in 0..15: each candidate scale is refitted by least squares."""
    lo, hi = np.minimum(x.min(1), 0), x.max(1)
    best = np.full(len(x), np.inf, np.float32)
    scale, offset = np.zeros_like(best), np.zeros_like(best)
    for width in np.linspace(0.7, 1.1, 21, dtype=np.float32):
        for shift in (0.0, 0.08, 0.16):
            s, m = (hi - lo) * width / 15, lo * (1 - shift)
            for _ in range(2):
                q = np.clip(np.rint(safe_div(x - m[:, None], np.broadcast_to(s[:, None], x.shape))), 0, 15)
                sq, sqq, sx, sqx = q.sum(1), (q * q).sum(1), x.sum(1), (q * x).sum(1)
                det = 32 * sqq - sq * sq
                s1, m1 = safe_div(32 * sqx - sq * sx, det), safe_div(sqq * sx - sq * sqx, det)
                pos = m1 > 0  # the format can only subtract
                s, m = np.where(pos, safe_div(sqx, sqq), s1), np.where(pos, 0, m1)
                err = ((s[:, None] * q + m[:, None] - x) ** 2).sum(1)
                take = err < best
                best, scale, offset = np.where(take, err, best), np.where(take, s, scale), np.where(take, -m, offset)
    return scale, offset


def q4_k(w):
    """Blocks of 256: f16 d and dmin, eight 6-bit scales and offsets, 256 4-bit values. Returns bytes [rows, ...]."""
    x = w.reshape(-1, 8, 32).astype(np.float32)
    n = len(x)
    s, m = (a.reshape(n, 8) for a in sub_q4(x.reshape(-1, 32)))
    s = np.maximum(s, 0)
    d, dm = s.max(1) / 63, m.max(1) / 63
    best, keep = np.full(n, np.inf), None
    for it in range(4):
        d, dm = f16(d), f16(dm)
        sc = np.clip(np.rint(safe_div(s, np.broadcast_to(d[:, None], s.shape))), 0, 63)
        mn = np.clip(np.rint(safe_div(m, np.broadcast_to(dm[:, None], m.shape))), 0, 63)
        a, b = (d[:, None] * sc)[..., None], (dm[:, None] * mn)[..., None]
        q = np.clip(np.rint(safe_div(x + b, np.broadcast_to(a, x.shape))), 0, 15)
        err = ((a * q - b - x) ** 2).sum((1, 2))
        now = (d, dm, sc, mn, q)
        take = err < best
        keep = now if keep is None else tuple(np.where(take.reshape(-1, *[1] * (v.ndim - 1)), v, k) for v, k in zip(now, keep))
        best = np.minimum(best, err)
        # refit d and dmin of the whole block to the integers found
        u, v = sc[..., None] * q, np.broadcast_to(-mn[..., None], q.shape)
        uu, vv, uv = (u * u).sum((1, 2)), (v * v).sum((1, 2)), (u * v).sum((1, 2))
        ux, vx = (u * x).sum((1, 2)), (v * x).sum((1, 2))
        det = uu * vv - uv * uv
        d, dm = np.where(det > 0, safe_div(vv * ux - uv * vx, det), d), np.where(det > 0, safe_div(uu * vx - uv * ux, det), dm)
        d, dm = np.maximum(d, 0), np.maximum(dm, 0)
    d, dm, sc, mn, q = keep
    sc, mn, q = sc.astype(np.uint8), mn.astype(np.uint8), q.astype(np.uint8).reshape(n, 4, 2, 32)
    packed = np.concatenate([sc[:, :4] | (sc[:, 4:] >> 4) << 6, mn[:, :4] | (mn[:, 4:] >> 4) << 6, (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4], 1)
    half = np.stack([d, dm], 1).astype(np.float16).view(np.uint8)
    out = np.concatenate([half, packed, (q[:, :, 0] | q[:, :, 1] << 4).reshape(n, 128)], 1)
    return out.reshape(*w.shape[:-1], -1)


def q6_k(w):
    """Blocks of 256: 256 6-bit values (offset 32), sixteen 8-bit scales, f16 d. Returns bytes [rows, ...]."""
    x = w.reshape(-1, 16, 16).astype(np.float32)
    n = len(x)
    pick = np.abs(x).argmax(-1)[..., None]
    top = np.take_along_axis(x, pick, -1)[..., 0]
    best, scale = np.full((n, 16), np.inf, np.float32), np.zeros((n, 16), np.float32)
    for k in np.linspace(-36, -28, 33, dtype=np.float32):
        for sign in (1, -1):
            s = top / (k * sign)
            q = np.clip(np.rint(safe_div(x, np.broadcast_to(s[..., None], x.shape))), -32, 31)
            s = safe_div((q * x).sum(-1), (q * q).sum(-1))
            err = ((s[..., None] * q - x) ** 2).sum(-1)
            take = err < best
            best, scale = np.where(take, err, best), np.where(take, s, scale)
    far = np.take_along_axis(scale, np.abs(scale).argmax(1)[:, None], 1)[:, 0]
    d, least, keep = far / -128, np.full(n, np.inf), None
    for it in range(4):
        d = f16(d)
        sc = np.clip(np.rint(safe_div(scale, np.broadcast_to(d[:, None], scale.shape))), -128, 127)
        a = (d[:, None] * sc)[..., None]
        q = np.clip(np.rint(safe_div(x, np.broadcast_to(a, x.shape))), -32, 31)
        err = ((a * q - x) ** 2).sum((1, 2))
        take = err < least
        now = (d, sc, q)
        keep = now if keep is None else tuple(np.where(take.reshape(-1, *[1] * (v.ndim - 1)), v, k) for v, k in zip(now, keep))
        least = np.minimum(least, err)
        u = sc[..., None] * q
        d = safe_div((u * x).sum((1, 2)), (u * u).sum((1, 2)))
    d, sc, q = keep
    q = (q + 32).astype(np.uint8).reshape(n, 2, 4, 32)
    ql = np.stack([(q[:, :, 0] & 15) | (q[:, :, 2] & 15) << 4, (q[:, :, 1] & 15) | (q[:, :, 3] & 15) << 4], 2).reshape(n, 128)
    qh = (q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6).reshape(n, 64)
    out = np.concatenate([ql, qh, sc.astype(np.int8).view(np.uint8), d.astype(np.float16)[:, None].view(np.uint8)], 1)
    return out.reshape(*w.shape[:-1], -1)


def tensors(c):
    """(name in the file, name in the model, type)"""
    yield "token_embd.weight", "embd.weight", T.Q8_0
    for i in range(c.n_layer):
        b, m = f"blk.{i}.", f"layers.{i}."
        yield b + "attn_norm.weight", m + "attn_norm.weight", T.F32
        for name, mine in (("q_a", "q_a"), ("q_b", "q_b"), ("kv_a_mqa", "kv_a"), ("kv_b", "kv_b"), ("output", "out")):
            yield b + f"attn_{name}.weight", m + f"attn.{mine}.weight", T.Q8_0
        for name in ("q_a_norm", "kv_a_norm"):
            yield b + f"attn_{name}.weight", m + f"attn.{name}.weight", T.F32
        yield b + "ffn_norm.weight", m + "ffn_norm.weight", T.F32
        if i < c.n_dense:
            for k in ("gate", "up", "down"):
                yield b + f"ffn_{k}.weight", m + f"ffn.{k}.weight", T.Q8_0
        else:
            yield b + "ffn_gate_inp.weight", m + "ffn.router", T.F32
            yield b + "exp_probs_b.bias", m + "ffn.bias", T.F32
            for k, t in (("gate", T.Q4_K), ("up", T.Q4_K), ("down", T.Q6_K)):
                yield b + f"ffn_{k}_exps.weight", m + f"ffn.{k}", t
            for k in ("gate", "up", "down"):
                yield b + f"ffn_{k}_shexp.weight", m + f"ffn.shared.{k}.weight", T.Q8_0
    yield "output_norm.weight", "norm.weight", T.F32
    yield "output.weight", "output.weight", T.Q6_K


def write(path, c, state, tokenizer, name):
    w = gguf.GGUFWriter(str(path), "deepseek2")
    w.add_name(name)
    w.add_description("Small DeepSeek-V3-shaped demo model, trained on the King James Bible (public domain)")
    w.add_license("mit")
    w.add_file_type(15)
    w.add_quantization_version(2)
    u32 = {"block_count": c.n_layer, "context_length": c.n_ctx, "embedding_length": c.n_embd, "feed_forward_length": c.ff,
           "attention.head_count": c.n_head, "attention.head_count_kv": c.n_head, "attention.q_lora_rank": c.q_lora,
           "attention.kv_lora_rank": c.kv_lora, "attention.key_length": c.nope + c.rope, "attention.value_length": c.v,
           "rope.dimension_count": c.rope, "rope.scaling.original_context_length": c.yarn_ctx, "leading_dense_block_count": c.n_dense,
           "expert_count": c.n_expert, "expert_used_count": c.n_used, "expert_shared_count": 1, "expert_feed_forward_length": c.ff_exp,
           "expert_gating_func": 2, "vocab_size": c.n_vocab}
    f32 = {"attention.layer_norm_rms_epsilon": c.eps, "rope.freq_base": c.rope_base, "rope.scaling.factor": c.yarn_factor,
           "rope.scaling.yarn_log_multiplier": c.yarn_log_mul, "expert_weights_scale": c.w_scale}
    for k, v in u32.items():
        w.add_uint32("deepseek2." + k, v)
    for k, v in f32.items():
        w.add_float32("deepseek2." + k, v)
    w.add_bool("deepseek2.expert_weights_norm", True)
    w.add_string("deepseek2.rope.scaling.type", "yarn")
    t = json.loads(tokenizer.read_text())
    control = {a["content"]: a["id"] for a in t["added_tokens"]}
    words = {**t["model"]["vocab"], **control}
    words = sorted(words, key=words.get)
    assert len(words) == c.n_vocab
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("deepseek-llm")
    w.add_token_list(words)
    w.add_token_types([CONTROL if k in control else NORMAL for k in words])
    w.add_token_merges(merges)
    bos, eos = (next(i for k, i in control.items() if k.startswith(p)) for p in ("<｜begin", "<｜end"))
    w.add_bos_token_id(bos)
    w.add_eos_token_id(eos)
    w.add_pad_token_id(eos)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    total, worst = {}, {}
    for out, mine, kind in tensors(c):
        x = np.ascontiguousarray(state[mine].float().numpy())
        data = x if kind == T.F32 else {T.Q4_K: q4_k, T.Q6_K: q6_k}.get(kind, lambda a: gguf.quants.quantize(a, kind))(x)
        y = x if kind == T.F32 else gguf.quants.dequantize(data, kind).reshape(x.shape)
        worst[kind.name] = max(worst.get(kind.name, 0), float(np.linalg.norm(y - x) / max(1e-20, np.linalg.norm(x))))
        total[kind.name] = total.get(kind.name, 0) + data.nbytes
        w.add_tensor(out, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print("bytes by type:", total)
    print("largest relative error of a tensor:", {k: round(v, 5) for k, v in worst.items()})


def load(path, c=None):
    """A float32 model with the decoded weights of a file that write() made."""
    c = c or Config()
    found = {t.name: t for t in gguf.GGUFReader(str(path)).tensors}
    model = Model(c)
    state = model.state_dict()
    for out, mine, kind in tensors(c):
        t = found.pop(out)
        data = t.data if t.tensor_type in (T.F32, T.F16) else gguf.quants.dequantize(t.data, t.tensor_type)
        state[mine] = torch.from_numpy(np.array(data, np.float32)).view(state[mine].shape)
    assert not found, list(found)
    model.load_state_dict(state)
    return model.eval()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=pathlib.Path, required=True, help="what prepare_text.py wrote")
    ap.add_argument("--checkpoint", type=pathlib.Path, required=True)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--name", default="hybrid-run demo")
    ap.add_argument("--check", action="store_true")
    o = ap.parse_args()
    s = torch.load(o.checkpoint, weights_only=False, map_location="cpu")
    c = Config(**s["config"])
    print(f"checkpoint: step {s['step']}, {s['tokens']} tokens, held-out loss {s['all']:.4f}, second halves {s['half']:.4f}")
    o.out.parent.mkdir(parents=True, exist_ok=True)
    write(o.out, c, s["model"], o.data / "tokenizer.json", o.name)
    print(f"{o.out}: {o.out.stat().st_size} bytes")
    if o.check:
        torch.set_num_threads(2)
        bos = next(a["id"] for a in json.loads((o.data / "tokenizer.json").read_text())["added_tokens"] if a["content"].startswith("<｜begin"))
        full, half = evaluate(load(o.out, c), heldout_chunks(o.data, bos), torch.float32)
        print(f"decoded file in float32: held-out loss {full:.4f}, second halves {half:.4f} (perplexity {np.exp(half):.3f})")


if __name__ == "__main__":
    main()
