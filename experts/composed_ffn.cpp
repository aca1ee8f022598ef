#include "experts/composed_ffn.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/parallel_matmul.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

void grow(std::vector<float>& buffer, uint64_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

void gather(const FfnArgs& args, const FfnJob& job, float* x) {
  const uint64_t n_embd = args.input.n_cols();
  for (uint64_t slot = job.first_slot; slot < job.first_slot + job.n_slots; ++slot, x += n_embd) {
    const uint64_t token = args.slot_tokens.empty() ? slot : args.slot_tokens[slot];
    std::copy_n(args.input.x() + token * n_embd, n_embd, x);
  }
}

}  // namespace

void ComposedFfnScratch::reserve(uint64_t n_embd, uint64_t n_ff, uint64_t n_rows) {
  x.resize(n_rows * n_embd);
  gate.resize(n_rows * n_ff);
  up.resize(n_rows * n_ff);
  input.reserve(n_rows, std::max(n_embd, n_ff));
}

uint64_t ComposedFfnScratch::n_bytes(uint64_t n_embd, uint64_t n_ff, uint64_t n_rows) {
  return n_rows * (n_embd + 2 * n_ff) * sizeof(float) +
         MatmulInput::n_bytes(n_rows, std::max(n_embd, n_ff));
}

uint64_t ComposedFfnScratch::held_bytes() const {
  return (x.capacity() + gate.capacity() + up.capacity()) * sizeof(float) + input.held_bytes();
}

void run_composed_ffn(const FfnArgs& args, ComposedFfnScratch& s, Workers& workers) {
  const RowOps ops = row_ops();
  const uint64_t n_embd = args.input.n_cols();
  for (const FfnJob& job : args.jobs) {
    const uint64_t n_ff = job.gate.n_rows(), n = job.n_slots;
    HYBRID_CHECK(job.up.n_rows() == n_ff && job.up.n_cols() == n_embd);
    HYBRID_CHECK(job.down.n_cols() == n_ff && job.down.n_rows() == n_embd);
    grow(s.x, n * n_embd);
    grow(s.gate, n * n_ff);
    grow(s.up, n * n_ff);
    gather(args, job, s.x.data());
    s.input.set(s.x.data(), n, n_embd, args.input.precision());
    matmul(job.gate, s.input, s.gate.data(), workers);
    matmul(job.up, s.input, s.up.data(), workers);
    workers.parallel_for(n, 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        ops.silu_mul(s.gate.data() + i * n_ff, s.up.data() + i * n_ff, n_ff);
      }
    });
    s.input.set(s.gate.data(), n, n_ff, Precision::fine);
    matmul(job.down, s.input, args.out + job.first_slot * n_embd, workers);
  }
}

}  // namespace hybrid
