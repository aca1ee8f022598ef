#include "attention/cache_row.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/rounding.h"
#include "tensor/dequantize.h"
#include "tensor/quant_blocks.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

constexpr uint32_t kBlock = 32;

uint64_t n_blocks(uint32_t n) { return divide_up(n, kBlock); }

}  // namespace

void CacheRow::store(const float* from, std::byte* to) const {
  const RowOps ops = row_ops();
  switch (type) {
    case DType::f32:
      std::memcpy(to, from, n_bytes());
      return;
    case DType::f16:
      return ops.to_f16(from, reinterpret_cast<f16_t*>(to), dim());
    default:
      HYBRID_CHECK(type == DType::q8_0);
  }
  auto* blocks = reinterpret_cast<BlockQ8_0*>(to);
  const uint32_t n_whole = n / kBlock;
  ops.to_q8_0(from, blocks, n_whole);
  if (n % kBlock != 0) {
    float last[kBlock] = {};
    std::copy(from + n_whole * kBlock, from + n, last);
    ops.to_q8_0(last, blocks + n_whole, 1);
  }
  ops.to_f16(from + n, reinterpret_cast<f16_t*>(blocks + n_blocks(n)), n_exact);
}

void CacheRow::load(const std::byte* from, uint64_t n_rows, float* to) const {
  if (type != DType::q8_0) return dequantize(type, from, to, n_rows * dim());
  const DequantizeFn blocks = dequantize_fn(DType::q8_0), halves = dequantize_fn(DType::f16);
  const uint32_t n_whole = n / kBlock * kBlock;
  for (uint64_t i = 0; i < n_rows; ++i, from += n_bytes(), to += dim()) {
    blocks(from, to, n_whole);
    if (n_whole < n) {
      float last[kBlock];
      blocks(from + n_whole / kBlock * sizeof(BlockQ8_0), last, kBlock);
      std::copy_n(last, n - n_whole, to + n_whole);
    }
    halves(from + n_blocks(n) * sizeof(BlockQ8_0), to + n, n_exact);
  }
}

}  // namespace hybrid
