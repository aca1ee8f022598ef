#pragma once
// The functions of this layer as the CUDA plugin has them; see tensor/cuda_ops.h.

#include <cstdint>

#include "attention/cache_row_cuda.h"
#include "attention/mla_absorbed_cuda.h"
#include "attention/mla_prefill_cuda.h"
#include "attention/score_softmax_cuda.h"

namespace hybrid {

struct AttentionCudaOps {
  static constexpr uint32_t kVersion = 3;
  static constexpr const char* kSymbol = "hybrid_attention_cuda_ops";

  uint32_t version;
  uint32_t n_bytes;  // of this struct

  decltype(&store_cache_rows_cuda) store_cache_rows;
  decltype(&load_cache_rows_cuda) load_cache_rows;
  decltype(&mla_absorbed_cuda) mla_absorbed;
  decltype(&mla_prefill_cuda) mla_prefill;
  decltype(&score_softmax_cuda) score_softmax;
};

}  // namespace hybrid
