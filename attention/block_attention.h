#pragma once
// Attention of many queries over blocks of keys, with a softmax that runs along: maximum and sum of
// each query are kept, and what was summed is scaled where the maximum grows. No scores are kept,
// so memory does not grow with the context.

#include <cstdint>
#include <vector>

#include "attention/attention_args.h"
#include "attention/key_block.h"
#include "attention/running_softmax.h"
#include "base/function_ref.h"
#include "numa/workers.h"

namespace hybrid {

/// Fills `block` with heads [head, head + n_heads) and positions [first, first + n).
using FillBlock = FunctionRef<void(KeyBlock& block, BlockParts parts, uint32_t head,
                                   uint32_t n_heads, uint32_t first, uint32_t n)>;

/// softmax: [n_tokens][n_heads]. As many heads of keys at a time as `block` has room for. Parallel
/// over groups of queries. Each thread keeps buffers for 64 queries, their scores and sums, and
/// what products need beside them. Each query is computed alone and in one order, so neither
/// threads nor the micro-batch change a bit of it.
void block_attention(const AttentionArgs& args, KeyBlock& block, FillBlock fill,
                     std::vector<RunningSoftmax>& softmax, Workers& workers);
uint64_t block_thread_bytes(const AttentionDims& dims);

}  // namespace hybrid
