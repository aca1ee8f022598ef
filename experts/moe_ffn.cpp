#include "experts/moe_ffn.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/vector_ops.h"

namespace hybrid {
namespace {

/// y[t] = sum over k of weight * out[slot of (t, k)].
void combine(const MoeFfnArgs& args, uint32_t n_used, const MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_embd = args.input.n_cols();
  const VectorOps ops = vector_ops();
  const auto* out = reinterpret_cast<const float*>(s.out.data());
  workers.parallel_for(args.input.n_tokens(), 8, [&](uint64_t begin, uint64_t end) {
    std::fill(args.y + begin * n_embd, args.y + end * n_embd, 0.0F);
    for (uint64_t slot = begin * n_used; slot < end * n_used; ++slot) {
      ops.axpy(args.weights[slot], out + uint64_t{s.place[slot]} * n_embd,
               args.y + slot / n_used * n_embd, n_embd);
    }
  });
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
  place.reserve(n_slots);
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
  return nets + n_slots * (n_embd * sizeof(float) + 3 * sizeof(uint32_t)) +
         shape.n_experts * sizeof(FfnJob) + (3 * uint64_t{shape.n_experts} + 1) * sizeof(uint32_t);
}

uint64_t MoeFfnScratch::held_bytes() const {
  uint64_t n =
      ffn.held_bytes() + composed.held_bytes() + out.n_bytes() + jobs.capacity() * sizeof(FfnJob);
  for (const std::vector<uint32_t>* v :
       {&slot_tokens, &place, &routes.slots, &routes.offsets, &routes.next, &routes.active}) {
    n += v->capacity() * sizeof(uint32_t);
  }
  return n;
}

void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, const ExpertWeights& experts,
             MoeFfnScratch& s, Workers& workers) {
  const uint64_t n_slots = args.input.n_tokens() * shape.n_used;
  HYBRID_CHECK(args.ids.size() == n_slots && args.weights.size() == n_slots);
  if (n_slots == 0) return;
  sort_by_expert(args.ids, shape.n_experts, s.routes);
  s.jobs.clear();
  for (const uint32_t e : s.routes.active) {
    const uint32_t first = s.routes.offsets[e], n = s.routes.offsets[e + 1] - first;
    s.jobs.push_back({experts.gate_of(e), experts.up_of(e), experts.down_of(e), first, n});
  }
  s.slot_tokens.resize(n_slots);
  s.place.resize(n_slots);
  for (uint32_t i = 0; i < n_slots; ++i) {
    s.slot_tokens[i] = s.routes.slots[i] / shape.n_used;
    s.place[s.routes.slots[i]] = i;
  }
  const uint64_t out_bytes = n_slots * args.input.n_cols() * sizeof(float);
  if (s.out.n_bytes() < out_bytes) s.out = HugeBuffer(out_bytes);
  const FfnArgs nets{args.input, s.jobs, s.slot_tokens, reinterpret_cast<float*>(s.out.data())};
  if (args.fused) {
    run_ffn_jobs(nets, s.ffn, workers);
  } else {
    run_composed_ffn(nets, s.composed, workers);
  }
  combine(args, shape.n_used, s, workers);
}

}  // namespace hybrid
