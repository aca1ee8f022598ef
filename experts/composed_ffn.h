#pragma once
// Feed-forward nets as single products, one net after the other, each step's rows written to
// memory: what ffn_jobs.h fuses. For comparison (`-fmoe 0`); the same formula, rounded elsewhere.

#include "experts/ffn_jobs.h"

namespace hybrid {

/// The buffers, kept between calls.
struct ComposedFfnScratch {
  /// Takes what calls need whose jobs have at most n_rows slots each, and counts it.
  void reserve(uint64_t n_embd, uint64_t n_ff, uint64_t n_rows);
  static uint64_t n_bytes(uint64_t n_embd, uint64_t n_ff, uint64_t n_rows);
  uint64_t held_bytes() const;  // what has really been taken

  std::vector<float> x;         // [n_rows][n_embd]: the input rows of a net
  std::vector<float> gate, up;  // [n_rows][n_ff]
  MatmulInput input;
};

/// As run_ffn_jobs().
void run_composed_ffn(const FfnArgs& args, ComposedFfnScratch& scratch, Workers& workers);

}  // namespace hybrid
