#include "attention/cache_row_cuda.h"

#include "attention/cache_row_cuda.cuh"

namespace hybrid {

using namespace cuda;

namespace {

/// 1 (cudaErrorInvalidValue) where a row is of another kind.
CudaStatus check(const CacheRow& row) {
  const bool is_known = row.type == DType::f16 || row.type == DType::q8_0;
  return is_known && row.n % kCacheBlock == 0 && row.n_exact % 2 == 0 ? 0 : 1;
}

}  // namespace

CudaStatus store_cache_rows_cuda(const CacheRow& row, DeviceRows<const float> rows,
                                 const int32_t* positions, uint32_t n_tokens, std::byte* cache,
                                 CudaStream stream) {
  if (check(row) != 0) return check(row);
  return launch(
      row.type == DType::q8_0 ? store_cache_rows_kernel<true> : store_cache_rows_kernel<false>,
      Grid(n_tokens), Grid(kCacheThreads), 0, stream, rows.data, rows.stride, positions, row.n,
      row.n_exact, row.n_bytes(), cache);
}

CudaStatus load_cache_rows_cuda(const CacheRow& row, const std::byte* cache, uint32_t n_rows,
                                bf16_t* latents, bf16_t* exact, CudaStream stream) {
  if (check(row) != 0) return check(row);
  return launch(
      row.type == DType::q8_0 ? load_cache_rows_kernel<true> : load_cache_rows_kernel<false>,
      Grid(n_rows), Grid(kCacheThreads), 0, stream, cache, row.n_bytes(), row.n, row.n_exact,
      latents, exact);
}

}  // namespace hybrid
