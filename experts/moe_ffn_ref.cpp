#include <algorithm>
#include <functional>

#include "base/error.h"
#include "experts/moe_ffn.h"
#include "experts/routes.h"
#include "tensor/matmul.h"
#include "tensor/softmax.h"

namespace hybrid {
namespace {

constexpr uint64_t kRowsPerTask = 64;

/// Calls body(expert, first row, end row) over all active experts' rows, in parallel.
void for_expert_rows(const Routes& routes, uint64_t n_rows, Workers& workers,
                     const std::function<void(uint32_t, uint64_t, uint64_t)>& body) {
  const uint64_t n_chunks = (n_rows + kRowsPerTask - 1) / kRowsPerTask;
  workers.parallel_for(routes.active.size() * n_chunks, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t first = i % n_chunks * kRowsPerTask;
      body(routes.active[i / n_chunks], first, std::min(n_rows, first + kRowsPerTask));
    }
  });
}

void gather(const MoeFfnArgs& args, uint32_t n_used, const Routes& routes, float* x_sorted) {
  for (size_t i = 0; i < routes.slots.size(); ++i) {
    const uint64_t token = routes.slots[i] / n_used;
    std::copy_n(args.x + token * args.n_embd, args.n_embd, x_sorted + i * args.n_embd);
  }
}

/// y[t] += sum over k of weight * out[slot of (t, k)].
void combine(const MoeFfnArgs& args, uint32_t n_used, const Routes& routes, const float* out,
             Workers& workers) {
  std::vector<uint32_t> place(routes.slots.size());
  for (uint32_t i = 0; i < routes.slots.size(); ++i) place[routes.slots[i]] = i;
  workers.parallel_for(args.n_tokens, 8, [&](uint64_t begin, uint64_t end) {
    for (uint64_t t = begin; t < end; ++t) {
      float* y = args.y + t * args.n_embd;
      for (uint32_t k = 0; k < n_used; ++k) {
        const uint64_t slot = t * n_used + k;
        const float weight = args.weights[slot];
        const float* row = out + uint64_t{place[slot]} * args.n_embd;
        for (uint32_t i = 0; i < args.n_embd; ++i) y[i] += weight * row[i];
      }
    }
  });
}

}  // namespace

void MoeFfnScratch::reserve(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens) {
  const uint64_t n_slots = n_tokens * shape.n_used;
  x_sorted.reserve(n_slots * n_embd);
  hidden.reserve(n_slots * 2 * shape.ff_dim);
  out.reserve(n_slots * n_embd);
}

uint64_t MoeFfnScratch::n_bytes(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens) {
  return n_tokens * shape.n_used * 2 * (n_embd + shape.ff_dim) * sizeof(float);
}

void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, const ExpertWeights& experts,
             MoeFfnScratch& scratch, Workers& workers) {
  const uint64_t n_slots = uint64_t{args.n_tokens} * shape.n_used;
  HYBRID_CHECK(args.ids.size() == n_slots && args.weights.size() == n_slots);
  if (n_slots == 0) return;
  const Routes routes = sort_by_expert(args.ids, shape.n_experts);
  const uint64_t n_embd = args.n_embd, ff = shape.ff_dim;
  scratch.x_sorted.resize(n_slots * n_embd);
  scratch.hidden.resize(n_slots * 2 * ff);
  scratch.out.resize(n_slots * n_embd);
  gather(args, shape.n_used, routes, scratch.x_sorted.data());

  for_expert_rows(routes, ff, workers, [&](uint32_t e, uint64_t begin, uint64_t end) {
    const uint64_t first = routes.offsets[e], n = routes.offsets[e + 1] - first;
    const TensorView merged = experts.is_merged() ? experts.gate_up.slice(e) : TensorView{};
    const TensorView gate = experts.is_merged() ? merged.rows(0, ff) : experts.gate.slice(e);
    const TensorView up = experts.is_merged() ? merged.rows(ff, ff) : experts.up.slice(e);
    const float* x = scratch.x_sorted.data() + first * n_embd;
    float* hidden = scratch.hidden.data() + first * 2 * ff;
    matmul_rows({gate, x, n_embd, hidden, 2 * ff, n}, begin, end);
    matmul_rows({up, x, n_embd, hidden + ff, 2 * ff, n}, begin, end);
    for (uint64_t i = 0; i < n; ++i) {
      float* row = hidden + i * 2 * ff;
      silu_mul(row + begin, row + ff + begin, end - begin);
    }
  });
  for_expert_rows(routes, n_embd, workers, [&](uint32_t e, uint64_t begin, uint64_t end) {
    const uint64_t first = routes.offsets[e], n = routes.offsets[e + 1] - first;
    const float* hidden = scratch.hidden.data() + first * 2 * ff;
    float* out = scratch.out.data() + first * n_embd;
    matmul_rows({experts.down.slice(e), hidden, 2 * ff, out, n_embd, n}, begin, end);
  });
  combine(args, shape.n_used, routes, scratch.out.data(), workers);
}

}  // namespace hybrid
