#include "experts/moe_ffn.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "tensor/vector_ops.h"

namespace hybrid {
namespace {

/// y[t] = sum over k of weight * row of (t, k).
void combine(const MoeFfnArgs& args, uint32_t n_used, const MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_embd = args.input.n_cols();
  const VectorOps ops = vector_ops();
  workers.parallel_for(args.input.n_tokens(), 8, [&](uint64_t begin, uint64_t end) {
    std::fill(args.y + begin * n_embd, args.y + end * n_embd, 0.0F);
    for (uint64_t slot = begin * n_used; slot < end * n_used; ++slot) {
      ops.axpy(args.weights[slot], s.rows[slot], args.y + slot / n_used * n_embd, n_embd);
    }
  });
}

FfnJob job_of(std::span<const ExpertPart> parts, uint32_t expert) {
  const auto part = std::ranges::find_if(parts, [&](const ExpertPart& p) { return p.has(expert); });
  HYBRID_CHECK(part != parts.end());
  const uint64_t e = expert - part->first;
  return {part->w.gate_of(e), part->w.up_of(e), part->w.down_of(e)};
}

/// The nets of all slots that are not elsewhere: their rows in s.out, in expert order, and where
/// they are in s.rows.
void run_nets(const MoeFfnArgs& args, const MoeShape& shape, std::span<const ExpertPart> parts,
              MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_embd = args.input.n_cols();
  sort_by_expert(args.ids, shape.n_experts, s.routes, args.elsewhere);
  s.jobs.clear();
  for (const uint32_t e : s.routes.active) {
    s.jobs.push_back(job_of(parts, e));
    s.jobs.back().first_slot = s.routes.offsets[e];
    s.jobs.back().n_slots = s.routes.offsets[e + 1] - s.routes.offsets[e];
  }
  const uint64_t n_here = s.routes.slots.size();
  if (const uint64_t n = n_here * n_embd * sizeof(float); s.out.n_bytes() < n) {
    s.out = HugeBuffer(n);
  }
  auto* out = reinterpret_cast<float*>(s.out.data());
  s.slot_tokens.resize(n_here);
  s.rows.assign(args.ids.size(), nullptr);
  for (uint64_t i = 0; i < n_here; ++i) {
    s.slot_tokens[i] = s.routes.slots[i] / shape.n_used;
    s.rows[s.routes.slots[i]] = out + i * n_embd;
  }
  if (n_here == 0) return;
  const FfnArgs nets{args.input, s.jobs, s.slot_tokens, out};
  if (args.fused) {
    run_ffn_jobs(nets, s.ffn, workers);
  } else {
    run_composed_ffn(nets, s.composed, workers);
  }
}

/// Each range's rows go to its slots, one after the other.
void place_rows(std::span<const ExpertRows> elsewhere, const MoeFfnArgs& args, MoeFfnScratch& s) {
  const uint64_t n_embd = args.input.n_cols();
  for (const ExpertRows& range : elsewhere) {
    const float* row = range.rows;
    for (uint64_t slot = 0; slot < args.ids.size(); ++slot) {
      if (!range.has(args.ids[slot])) continue;
      s.rows[slot] = row;
      row += n_embd;
    }
  }
}

}  // namespace

void MoeFfnScratch::reserve(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens, bool fused) {
  const uint64_t n_slots = n_tokens * shape.n_used;
  if (fused) {
    ffn.reserve(n_embd, shape.ff_dim, n_slots, shape.n_experts);
  } else {
    composed.reserve(n_embd, shape.ff_dim, n_tokens);
  }
  out = HugeBuffer(n_slots * n_embd * sizeof(float));
  jobs.reserve(shape.n_experts);
  slot_tokens.reserve(n_slots);
  rows.reserve(n_slots);
  routes.slots.reserve(n_slots);
  routes.offsets.reserve(shape.n_experts + 1);
  routes.next.reserve(shape.n_experts);
  routes.active.reserve(shape.n_experts);
}

uint64_t MoeFfnScratch::n_bytes(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens,
                                bool fused) {
  const uint64_t n_slots = n_tokens * shape.n_used;
  const uint64_t nets = fused ? FfnScratch::n_bytes(n_embd, shape.ff_dim, n_slots, shape.n_experts)
                              : ComposedFfnScratch::n_bytes(n_embd, shape.ff_dim, n_tokens);
  return nets + n_slots * (n_embd * sizeof(float) + 2 * sizeof(uint32_t) + sizeof(const float*)) +
         shape.n_experts * sizeof(FfnJob) + (3 * uint64_t{shape.n_experts} + 1) * sizeof(uint32_t);
}

uint64_t MoeFfnScratch::held_bytes() const {
  uint64_t n =
      ffn.held_bytes() + composed.held_bytes() + out.n_bytes() + jobs.capacity() * sizeof(FfnJob);
  for (const std::vector<uint32_t>* v :
       {&slot_tokens, &routes.slots, &routes.offsets, &routes.next, &routes.active}) {
    n += v->capacity() * sizeof(uint32_t);
  }
  return n + rows.capacity() * sizeof(const float*);
}

void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, std::span<const ExpertPart> parts,
             MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_slots = args.input.n_tokens() * shape.n_used;
  HYBRID_CHECK(args.ids.size() == n_slots && args.weights.size() == n_slots);
  if (n_slots == 0) return;
  run_nets(args, shape, parts, s, workers);
  if (args.arrive != nullptr) (*args.arrive)();
  place_rows(args.elsewhere, args, s);
  combine(args, shape.n_used, s, workers);
}

void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, const ExpertWeights& experts,
             MoeFfnScratch& s, Workers& workers) {
  const ExpertPart all{0, shape.n_experts, experts};
  moe_ffn(args, shape, std::span(&all, 1), s, workers);
}

void moe_rows(const MoeFfnArgs& args, const MoeShape& shape, const ExpertPart& part, float* rows,
              MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_embd = args.input.n_cols();
  HYBRID_CHECK(args.ids.size() == args.input.n_tokens() * shape.n_used);
  const uint32_t end = part.first + part.n;
  const std::array<ExpertRows, 2> others{{{0, part.first}, {end, shape.n_experts - end}}};
  MoeFfnArgs own = args;
  own.elsewhere = others;
  run_nets(own, shape, std::span(&part, 1), s, workers);
  uint64_t n = 0;
  for (const float* row : s.rows) {
    if (row != nullptr) s.rows[n++] = row;
  }
  workers.parallel_for(n, 8, [&](uint64_t begin, uint64_t last) {
    for (uint64_t i = begin; i < last; ++i) std::copy_n(s.rows[i], n_embd, rows + i * n_embd);
  });
}

}  // namespace hybrid
